"""Where a run's learner, samplers and episodes are: the seam, and all of it in one process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from astuner_gym.environment import Environment
from astuner_rl.algos.config import GrpoConfig, PpoConfig
from astuner_rl.assembly import (
    OpenOpponent,
    TokenSamplerConfig,
    against,
    build_learner,
    build_sampler,
    compute_dtype,
    lora_of,
)
from astuner_rl.backbones.loop import LoopState
from astuner_rl.backbones.ray.config import RayBackboneConfig
from astuner_rl.config import ExperimentConfig
from astuner_rl.learning.learner import Learner
from astuner_rl.learning.pretrained import Pretrained
from astuner_rl.learning.ranks import Ranks
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.rollout.runner import Runner
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.tracking.tracker import TokenPolicy


class Backbone(Protocol):
    """What runs the steps."""

    async def run(self, state: LoopState) -> LoopState:
        """Train from ``state`` to the last step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredients:
    """What every deployment makes a run's parts of."""

    config: ExperimentConfig
    environment: Environment
    pretrained: Pretrained
    renderer: ChatRenderer
    opponent: OpenOpponent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """What samples, and what plays episodes with it."""

    sampler: Sampler
    runner: Runner
    close: Callable[[], Awaitable[None]]
    """Frees the resources of both."""
    exact: bool = True
    """Whether what judge and opponent answer in processes of the runner's own repeats, too."""


class Deployment(Protocol):
    """Makes the parts of a run where they are to be."""

    @property
    def exact(self) -> bool:
        """Whether the learner's updates repeat bit for bit: on a CPU of this machine they do."""
        ...

    def learner(self) -> Learner:
        """Return the learner that the algorithm names, of the initial weights."""
        ...

    def save_model(self, folder: Path) -> None:
        """Write the learner's weights and the tokenizer as a Hugging Face folder."""
        ...

    def rollouts(self, *, policy_version: int, service_logs: Path | None = None) -> Rollouts:
        """Return sampler and runner with the weights that the learner has now.

        Args:
            policy_version: Of these weights.
            service_logs: Where runners in other processes keep the logs of their environments'
                services.
        """
        ...

    def watched(self, backbone: Backbone) -> Backbone:
        """Return the backbone as it is run here."""
        ...


def learner_ranks(config: ExperimentConfig) -> int:
    """Return how many processes learn together; bits depend on it."""
    backbone = config.backbone
    return backbone.learner.ranks if isinstance(backbone, RayBackboneConfig) else 1


def make_learner(
    config: ExperimentConfig, pretrained: Pretrained, *, ranks: Ranks | None = None
) -> Learner:
    """Return the learner of ``pretrained.model``, which it trains in place.

    Args:
        config: With an algorithm that learns by reward.
        pretrained: Equal on all ranks.
        ranks: Who trains it together; None for this process alone.
    """
    assert isinstance(config.algo, GrpoConfig | PpoConfig)
    return build_learner(
        config.algo,
        pretrained,
        updates=config.train.steps,
        dtype=compute_dtype(config.model),
        lora=lora_of(config.model),
        ranks=ranks,
    )


def rollouts_here(ingredients: Ingredients, *, policy_version: int) -> Rollouts:
    """Return a sampler of the model, which it copies, and a runner that asks it.

    Args:
        ingredients: With a sampler of tokens.
        policy_version: Of the model's weights.
    """
    config = ingredients.config
    assert isinstance(config.sampler, TokenSamplerConfig)
    sampler = build_sampler(
        config.sampler, ingredients.pretrained, ingredients.renderer, policy_version=policy_version
    )
    return Rollouts(sampler=sampler, runner=runner_here(ingredients, sampler), close=sampler.close)


def runner_here(ingredients: Ingredients, sampler: Sampler) -> EpisodeRunner:
    """Return what plays episodes in this process, wherever they are sampled."""
    config = ingredients.config
    policy = TokenPolicy(renderer=ingredients.renderer, sampler=sampler, seed=config.seed)
    return EpisodeRunner(
        environment=ingredients.environment,
        policy=against(policy, ingredients.opponent, config),
        config=config.rollout,
    )


class LocalDeployment:
    """Everything in this process; learner and checkpoints share the model of ``ingredients``."""

    def __init__(self, ingredients: Ingredients) -> None:
        self._ingredients = ingredients

    @property
    def exact(self) -> bool:
        """Whether updates repeat: always, the model is where it was loaded, on the CPU."""
        return True

    def learner(self) -> Learner:
        """Return a learner that trains the model in place."""
        return make_learner(self._ingredients.config, self._ingredients.pretrained)

    def save_model(self, folder: Path) -> None:
        """Write the model, which is the learner's."""
        self._ingredients.pretrained.save(folder)

    def rollouts(self, *, policy_version: int, service_logs: Path | None = None) -> Rollouts:
        """Return what samples and plays in this process, with the learner's weights."""
        return rollouts_here(self._ingredients, policy_version=policy_version)

    def watched(self, backbone: Backbone) -> Backbone:
        """Return it unchanged: nothing can be lost but all of it."""
        return backbone

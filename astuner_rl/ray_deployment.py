"""A run's parts as actors of a Ray cluster, and what each actor makes of the settings.

Functions here run in the actors: Ray imports this module on every node.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import ray
import torch
from ray.actor import ActorHandle
from transformers import PreTrainedTokenizerFast

from astuner_rl.assembly import (
    TokenSamplerConfig,
    against,
    build_environment,
    build_renderer,
    build_sampler,
    lora_of,
    open_opponent,
    renderer_of,
    set_compute_dtype,
)
from astuner_rl.backbones.ray.answers import Watch
from astuner_rl.backbones.ray.cluster import ActorPlan, Reservation, connected, reserved
from astuner_rl.backbones.ray.config import RayBackboneConfig
from astuner_rl.backbones.ray.kept import Kept
from astuner_rl.backbones.ray.learner import LearnerActor, LearnerActors
from astuner_rl.backbones.ray.rollouts import RolloutActor, RolloutActors, WorkerParts
from astuner_rl.backbones.ray.samplers import MOST_CALLS, SamplerActor, SamplerActors, SamplerClient
from astuner_rl.backbones.ray.watched import Backbone, WatchedBackbone
from astuner_rl.config import ExperimentConfig
from astuner_rl.deployment import (
    Ingredients,
    Rollouts,
    make_learner,
    rollouts_here,
    runner_here,
)
from astuner_rl.judges import open_judge, with_judge
from astuner_rl.learning.learner import Learner
from astuner_rl.learning.pretrained import Pretrained
from astuner_rl.learning.ranks import Ranks
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.samplers.protocol import CompletionSource, Sampler
from astuner_rl.samplers.transformers import TransformersSamplerConfig
from astuner_rl.samplers.weights import copy_weights
from astuner_rl.tracking.tracker import TokenPolicy


@contextmanager
def ray_deployment(ingredients: Ingredients) -> Iterator[RayDeployment]:
    """Start a run's actors; all of them end with the context.

    Raises:
        SettingError: The cluster cannot be reached, or lacks the resources.
        RunAbortedError: No Ray could be started.
    """
    config = _settings(ingredients.config)
    plans = {
        "learner": _learner_plan(config),
        "samplers": ActorPlan(
            count=config.samplers.count,
            cpus=config.samplers.cpus,
            gpus=config.samplers.gpus,
            restarts=True,
            most_calls=MOST_CALLS,
        ),
        "rollouts": ActorPlan(
            count=config.rollouts.count,
            cpus=config.rollouts.cpus,
            restarts=True,
            most_calls=MOST_CALLS,
        ),
    }
    with connected(config), reserved(plans, config) as reservation:
        yield RayDeployment(ingredients, reservation)


@contextmanager
def ray_learner(config: ExperimentConfig, pretrained: Pretrained) -> Iterator[LearnerActors]:
    """Start the learner of a run and nothing else; its actors end with the context.

    Raises:
        SettingError: The cluster cannot be reached, or lacks the resources.
        RunAbortedError: No Ray could be started.
        LostProcessError: A rank died, or does not answer.
    """
    settings = _settings(config)
    plans = {"learner": _learner_plan(settings)}
    with connected(settings), reserved(plans, settings) as reservation:
        ranks = _start_learner(reservation, config, Kept.put(pretrained))
        yield LearnerActors(ranks, answer_s=settings.answer_s)


class RayDeployment:
    """Learner, samplers and rollout workers as actors; this process leads them and keeps the files.

    All actors start at once, when this is made; they are waited for when they are first needed.
    """

    def __init__(self, ingredients: Ingredients, reservation: Reservation) -> None:
        config, pretrained = ingredients.config, ingredients.pretrained
        self._ingredients = ingredients
        self._settings = _settings(config)
        model = Kept.put(pretrained)
        speech = Kept.put((pretrained.tokenizer, pretrained.stop_token_ids))
        # The one here has weights that the learner offers: to be written to checkpoints, and to be
        # sampled from where there are no sampler actors.
        set_compute_dtype(config.model, pretrained)
        self._ranks = _start_learner(reservation, config, model)
        self._sampler_actors = reservation.start(
            "samplers", SamplerActor, partial(_sampler, config, model)
        )
        self._rollout_actors = reservation.start(
            "rollouts",
            RolloutActor,
            partial(_worker, config, speech),
            SamplerClient(self._sampler_actors),
        )
        self._watches: list[Watch] = []
        self._learner: LearnerActors | None = None

    @property
    def exact(self) -> bool:
        """Whether updates repeat: on CPUs of this machine they do."""
        here = {socket.gethostname()}
        return self._settings.learner.gpus == 0 and self.learner().machines() == here

    def learner(self) -> LearnerActors:
        """Return the learner, when it has started."""
        if self._learner is None:
            self._learner = LearnerActors(self._ranks, answer_s=self._settings.answer_s)
            self._watches += self._learner.watches
        return self._learner

    def save_model(self, folder: Path) -> None:
        """Write the learner's weights and the tokenizer as a Hugging Face folder."""
        pretrained = self._ingredients.pretrained
        copy_weights(pretrained.model, self.learner().weights())
        pretrained.save(folder)

    def rollouts(self, *, policy_version: int, service_logs: Path | None = None) -> Rollouts:
        """Return sampler and runner, when they have started and have the learner's weights."""
        if not self._sampler_actors:
            copy_weights(self._ingredients.pretrained.model, self.learner().weights())
            return rollouts_here(self._ingredients, policy_version=policy_version)
        config = self._ingredients.config
        samplers = SamplerActors(
            self._sampler_actors,
            weights=self.learner().handover(whole=True),
            version=policy_version,
            adapters=lora_of(config.model) is not None,
            answer_s=self._settings.answer_s,
        )
        self._watches += samplers.watches
        if not self._rollout_actors:
            runner = runner_here(self._ingredients, samplers)
            return Rollouts(sampler=samplers, runner=runner, close=samplers.close)
        workers = RolloutActors(
            self._rollout_actors,
            environment=self._ingredients.environment,
            config=config.rollout,
            answer_s=self._settings.answer_s,
            service_logs=service_logs,
        )
        self._watches += workers.watches

        async def close() -> None:
            await workers.close()
            await samplers.close()

        return Rollouts(sampler=samplers, runner=workers, close=close, exact=workers.exact)

    def watched(self, backbone: Backbone) -> Backbone:
        """Return the backbone, with every actor looked after while it runs."""
        return WatchedBackbone(backbone=backbone, watches=self._watches)


def _settings(config: ExperimentConfig) -> RayBackboneConfig:
    assert isinstance(config.backbone, RayBackboneConfig)
    return config.backbone


def _learner_plan(config: RayBackboneConfig) -> ActorPlan:
    return ActorPlan(
        count=config.learner.ranks,
        cpus=config.learner.cpus,
        gpus=config.learner.gpus,
        restarts=False,
        most_calls=1,  # one after the other, and all in one thread
    )


def _start_learner(
    reservation: Reservation, config: ExperimentConfig, model: Kept[Pretrained]
) -> list[ActorHandle[LearnerActor]]:
    settings = _settings(config)
    return reservation.start(
        "learner",
        LearnerActor,
        partial(_learner, config, model),
        _device(settings.learner.gpus),
        settings.threads,
    )


# These run in the actors.


def _learner(config: ExperimentConfig, model: Kept[Pretrained], ranks: Ranks) -> Learner:
    pretrained = model.get()
    _place(pretrained, gpus=_settings(config).learner.gpus)
    return make_learner(config, pretrained, ranks=ranks)


async def _sampler(config: ExperimentConfig, model: Kept[Pretrained]) -> Sampler:
    assert isinstance(config.sampler, TokenSamplerConfig)
    pretrained = await model.fetch()
    set_compute_dtype(config.model, pretrained)
    if isinstance(config.sampler, TransformersSamplerConfig):  # vLLM places a copy by itself
        _place(pretrained, gpus=_settings(config).samplers.gpus)
    # The version comes with the weights that the run gives next.
    return build_sampler(config.sampler, pretrained, build_renderer(pretrained), policy_version=0)


async def _worker(
    config: ExperimentConfig,
    speech: Kept[tuple[PreTrainedTokenizerFast, tuple[int, ...]]],
    samplers: CompletionSource,
) -> WorkerParts:
    # AgentScope warns of every episode that reaches its limit of replies: metrics count them.
    logging.getLogger("as").setLevel(logging.ERROR)
    tokenizer, stop_token_ids = await speech.fetch()
    renderer = renderer_of(tokenizer, stop_token_ids=stop_token_ids)
    policy = TokenPolicy(renderer=renderer, sampler=samplers, seed=config.seed)
    judge = open_judge(config)
    if not ray.get_runtime_context().was_current_actor_reconstructed:
        await judge.check()  # a run that goes on waits for its judge instead
    opponent = open_opponent(config)
    runner = EpisodeRunner(
        environment=with_judge(build_environment(config), config, judge.model),
        policy=against(policy, opponent, config),
        config=config.rollout,
    )
    return WorkerParts(
        runner=runner,
        exact=judge.exact and (opponent is None or opponent.exact),
        # Only weights that are in this process have a fingerprint.
        samples=bool(judge.fingerprint or (opponent is not None and opponent.fingerprint)),
    )


def _place(pretrained: Pretrained, *, gpus: float) -> None:
    torch.nn.Module.to(pretrained.model, _device(gpus))


def _device(gpus: float) -> str:
    # Ray shows an actor its own GPUs and no others.
    return "cuda:0" if gpus > 0 else "cpu"

"""From settings to parts: the one place that knows which class each option stands for."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import torch
from transformers import PreTrainedTokenizerFast

from astuner_gym.chat.parsers import guess_reply_parser, reply_parser
from astuner_gym.environment import Environment, environment_config
from astuner_gym.errors import SettingError
from astuner_rl.algos.config import GrpoConfig, PpoConfig
from astuner_rl.config import (
    ExperimentConfig,
    HfModelConfig,
    NoOpponentConfig,
    OpenAIOpponentConfig,
    OpenAISamplerConfig,
    Precision,
    ScriptedSamplerConfig,
)
from astuner_rl.learning.demonstrations import read_conversations, supervised_examples
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.learning.learner import Learner
from astuner_rl.learning.lora import Lora
from astuner_rl.learning.master_weights import compute_in
from astuner_rl.learning.ppo import PpoLearner
from astuner_rl.learning.pretrained import Pretrained, load_pretrained
from astuner_rl.learning.ranks import Ranks
from astuner_rl.learning.supervised import SupervisedConfig, SupervisedExample
from astuner_rl.learning.tiny import TinyConfig, build_tiny
from astuner_rl.learning.tiny.tokenizer import train_tokenizer
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.samplers.openai import EndpointPolicy
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.samplers.scripted import ScriptedSampler
from astuner_rl.samplers.transformers import TransformersSampler, TransformersSamplerConfig
from astuner_rl.samplers.vllm import VllmSampler, VllmSamplerConfig
from astuner_rl.samplers.vllm_engine import require_vllm
from astuner_rl.tracking.opponents import PolicyWithOpponent
from astuner_rl.tracking.tracker import Policy, TokenPolicy

TokenSamplerConfig: TypeAlias = TransformersSamplerConfig | VllmSamplerConfig
"""Settings of the samplers that return tokens and take new weights: those that can train."""
TEACHER = "gsm8k"
"""Environment whose demonstrations the tiny model imitates where its own has none."""
SCRIPT_VOCABULARY = 2048
"""Tokens of the tokenizer that stands in for a model's where the sampler is scripted."""


def build_environment(config: ExperimentConfig) -> Environment:
    """Return the environment with its own judge; see :func:`astuner_rl.judges.with_judge`.

    Raises:
        SettingError: A setting breaks a rule, or a role of ``env.trainable`` cannot be.
        TaskDataError: Task data is absent or malformed.
    """
    if config.env.trainable == []:
        raise SettingError(
            "env.trainable must name a role, or be null to train all, got []; "
            "set env.trainable=null"
        )
    environment: Environment = config.env.build()
    return environment


def build_pretrained(config: TinyConfig | HfModelConfig, environment: Environment) -> Pretrained:
    """Return the policy's initial weights and tokenizer.

    The tiny model is built if no earlier run has: that takes minutes and is told on standard error.
    It imitates the environment's demonstrations, or GSM8K's if there are none.

    Raises:
        UnusableInputError: The model cannot be loaded.
    """
    if isinstance(config, HfModelConfig):
        return load_pretrained(config.path)
    demonstrations = environment.demonstrations
    if demonstrations is None:
        # A user's environment rarely has any; this one teaches to call tools and to answer.
        demonstrations = environment_config(TEACHER)().build().demonstrations
    folder = build_tiny(config, demonstrations, say=lambda line: print(line, file=sys.stderr))
    return load_pretrained(str(folder))


def compute_dtype(config: TinyConfig | HfModelConfig) -> torch.dtype | None:
    """Return what the model is to compute in; None for the type in which it is loaded."""
    if isinstance(config, HfModelConfig) and config.dtype == Precision.BFLOAT16:
        return torch.bfloat16
    return None


def set_compute_dtype(config: TinyConfig | HfModelConfig, pretrained: Pretrained) -> None:
    """Round the weights of a model that samples to what it is to compute in, in place."""
    if (dtype := compute_dtype(config)) is not None:
        compute_in(pretrained.model, dtype)


def lora_of(config: TinyConfig | HfModelConfig) -> Lora | None:
    """Return the adapters to train; None for all weights."""
    if isinstance(config, HfModelConfig) and config.lora_rank > 0:
        return Lora(rank=config.lora_rank, alpha=config.lora_alpha)
    return None


def build_renderer(pretrained: Pretrained) -> ChatRenderer:
    """Return the renderer that fits the model's chat template and stop tokens."""
    return renderer_of(pretrained.tokenizer, stop_token_ids=pretrained.stop_token_ids)


def renderer_of(
    tokenizer: PreTrainedTokenizerFast, *, stop_token_ids: Sequence[int]
) -> ChatRenderer:
    """Return the renderer that fits a tokenizer's chat template and a model's stop tokens."""
    return ChatRenderer(
        tokenizer,
        reply_parser(guess_reply_parser(tokenizer.get_chat_template(tools=[{}]))),
        stop_token_ids=stop_token_ids,
    )


def check_sampler(config: ExperimentConfig) -> None:
    """Find out whether what the sampler needs is installed, before the first slow step.

    Raises:
        SettingError: It is not.
    """
    if isinstance(config.sampler, VllmSamplerConfig):
        require_vllm()


def build_sampler(
    config: TokenSamplerConfig,
    pretrained: Pretrained,
    renderer: ChatRenderer,
    *,
    policy_version: int,
) -> Sampler:
    """Return a sampler of the weights that ``pretrained`` has now.

    Raises:
        SettingError: The sampler cannot sample from this model with these settings.
    """
    if isinstance(config, VllmSamplerConfig):
        return VllmSampler.start(
            pretrained.model,
            stop_token_ids=renderer.stop_token_ids,
            config=config,
            policy_version=policy_version,
        )
    pad = pretrained.tokenizer.pad_token_id
    return TransformersSampler(
        pretrained.model,
        stop_token_ids=renderer.stop_token_ids,
        pad_token_id=renderer.stop_token_ids[0] if pad is None else pad,
        config=config,
        policy_version=policy_version,
    )


def build_learner(
    config: GrpoConfig | PpoConfig,
    pretrained: Pretrained,
    *,
    updates: int,
    dtype: torch.dtype | None = None,
    lora: Lora | None = None,
    ranks: Ranks | None = None,
) -> Learner:
    """Return the learner of ``pretrained.model``, which it trains in place in so many updates.

    Args:
        config: Settings of the algorithm.
        pretrained: Equal on all ranks.
        updates: Of the whole run.
        dtype: See ``compute_dtype``.
        lora: See ``lora_of``.
        ranks: Who trains it together; None for this process alone.
    """
    if isinstance(config, PpoConfig):
        return PpoLearner(
            pretrained.model, config, updates=updates, dtype=dtype, lora=lora, ranks=ranks
        )
    return GrpoLearner(
        pretrained.model, config, updates=updates, dtype=dtype, lora=lora, ranks=ranks
    )


def build_examples(
    config: SupervisedConfig, environment: Environment, renderer: ChatRenderer
) -> list[SupervisedExample]:
    """Return what ``algo=sft`` imitates: the user's file, or the environment's demonstrations.

    Raises:
        SettingError: There is neither.
        TaskDataError: The file is malformed.
    """
    if config.path is not None:
        conversations = read_conversations(Path(config.path))
        return supervised_examples(conversations, renderer, at_most=config.examples)
    if environment.demonstrations is None:
        raise SettingError(
            f"algo=sft needs demonstrations, and env={environment.name} has none; set "
            "algo.path=<conversations.jsonl>"
        )
    return supervised_examples(environment.demonstrations.train, renderer, at_most=config.examples)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPolicy:
    """A policy that can be asked, and what must be closed when it no longer is."""

    policy: Policy
    decode_each: Callable[[Sequence[int]], Sequence[str]]
    """Token ids [T] to the text of each of them [T]."""
    check: Callable[[], Awaitable[None]]
    """Raises SettingError if nobody answers."""
    close: Callable[[], Awaitable[None]]


def open_policy(config: ExperimentConfig, environment: Environment) -> OpenPolicy:
    """Return the policy of model and sampler in the settings, to be asked and not trained.

    The opponent that the settings name plays the roles that do not learn.
    """
    opened = _open_policy(config, environment)
    opponent = open_opponent(config)
    if opponent is None:
        return opened

    async def check() -> None:
        await opened.check()
        await check_opponent(config)

    async def close() -> None:
        await opened.close()
        await opponent.close()

    return replace(
        opened, policy=against(opened.policy, opponent, config), check=check, close=close
    )


def _open_policy(config: ExperimentConfig, environment: Environment) -> OpenPolicy:
    if isinstance(config.sampler, OpenAISamplerConfig):
        endpoint = EndpointPolicy(
            base_url=config.sampler.base_url,
            model=config.sampler.model,
            api_key_env=config.sampler.api_key_env,
        )
        return OpenPolicy(
            policy=endpoint, decode_each=_no_tokens, check=endpoint.check, close=endpoint.close
        )
    if isinstance(config.sampler, ScriptedSamplerConfig):
        renderer = _script_renderer(environment)
        sampler: Sampler = ScriptedSampler.from_texts(
            config.sampler.replies,
            encode=lambda text: [*renderer.codec.encode(text), renderer.stop_token_ids[0]],
        )
    else:
        check_sampler(config)
        pretrained = build_pretrained(config.model, environment)
        set_compute_dtype(config.model, pretrained)
        renderer = build_renderer(pretrained)
        sampler = build_sampler(config.sampler, pretrained, renderer, policy_version=0)
    return OpenPolicy(
        policy=TokenPolicy(renderer=renderer, sampler=sampler, seed=config.seed),
        decode_each=renderer.codec.decode_each,
        check=_nothing_to_check,
        close=sampler.close,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenModel:
    """A model in this process that is asked and never trained."""

    renderer: ChatRenderer
    sampler: Sampler
    fingerprint: str
    """Of its weights, by which a resumed run knows it again."""


def open_frozen(pretrained: Pretrained, settings: TransformersSamplerConfig) -> FrozenModel:
    """Return a model to be asked.

    Raises:
        SettingError: It cannot be sampled from with these settings.
    """
    renderer = build_renderer(pretrained)
    return FrozenModel(
        renderer=renderer,
        sampler=build_sampler(settings, pretrained, renderer, policy_version=0),
        fingerprint=_fingerprint(pretrained),
    )


def _fingerprint(pretrained: Pretrained) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(pretrained.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOpponent:
    """A policy that plays the roles which do not learn."""

    policy: Policy
    exact: bool
    """Whether it answers a second run of the same seed as it did the first."""
    fingerprint: str
    """Of its weights, by which a resumed run knows it again; empty if they are not to be had."""
    close: Callable[[], Awaitable[None]]


def open_opponent(config: ExperimentConfig) -> OpenOpponent | None:
    """Return the opponent that the settings name; None if there is none.

    Raises:
        UnusableInputError: Its model cannot be loaded.
    """
    if isinstance(config.opponent, NoOpponentConfig):
        return None
    if isinstance(config.opponent, OpenAIOpponentConfig):
        endpoint = _opponent_endpoint(config.opponent)
        return OpenOpponent(policy=endpoint, exact=False, fingerprint="", close=endpoint.close)
    settings = config.sampler
    if isinstance(settings, VllmSamplerConfig):
        # One engine of vLLM's is enough for a machine.
        settings = TransformersSamplerConfig(context_length=settings.context_length)
    elif not isinstance(settings, TransformersSamplerConfig):
        settings = TransformersSamplerConfig()
    frozen = open_frozen(load_pretrained(config.opponent.path, setting="opponent.path"), settings)
    return OpenOpponent(
        policy=TokenPolicy(renderer=frozen.renderer, sampler=frozen.sampler, seed=config.seed),
        exact=frozen.sampler.exact,
        fingerprint=frozen.fingerprint,
        close=frozen.sampler.close,
    )


async def check_opponent(config: ExperimentConfig) -> None:
    """Find out whether the opponent's server answers, if it is one.

    Raises:
        SettingError: It does not answer, refuses, or is no such server.
    """
    if isinstance(config.opponent, OpenAIOpponentConfig):
        # A client of its own: connections belong to the event loop that made them.
        endpoint = _opponent_endpoint(config.opponent)
        try:
            await endpoint.check()
        finally:
            await endpoint.close()


def _opponent_endpoint(config: OpenAIOpponentConfig) -> EndpointPolicy:
    return EndpointPolicy(
        base_url=config.base_url,
        model=config.model,
        api_key_env=config.api_key_env,
        setting="opponent.base_url",
    )


def against(policy: Policy, opponent: OpenOpponent | None, config: ExperimentConfig) -> Policy:
    """Return the policy as it is asked: with the opponent in the roles that do not learn."""
    trainable = config.env.trainable
    if opponent is None or trainable is None:
        return policy
    return PolicyWithOpponent(policy=policy, opponent=opponent.policy, trainable=trainable)


def _script_renderer(environment: Environment) -> ChatRenderer:
    sets = environment.demonstrations
    conversations = [] if sets is None else list(islice(sets.train, 200))
    tokenizer = train_tokenizer(conversations, vocab_size=SCRIPT_VOCABULARY)
    return ChatRenderer(tokenizer, reply_parser("hermes"))


async def _nothing_to_check() -> None:
    return None


def _no_tokens(token_ids: Sequence[int]) -> list[str]:
    assert not token_ids  # an endpoint's calls hold none
    return []

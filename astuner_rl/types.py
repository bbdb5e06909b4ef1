"""The records that flow through training, from a sampled token to a finished group.

Tokens are ``int`` ids; log-probs are natural logarithms under the distribution sampled from,
temperature included. ``[T]`` is a length in tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.judge import GivenReward
from astuner_gym.workflow import WorkflowResult


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """The policy sampled a stop token, which is the last of ``token_ids``."""
    LENGTH = "length"
    """``max_tokens`` or the context was used up; no stop token was sampled."""
    ABORT = "abort"
    """The request was cancelled; what it sampled is partial."""

    @property
    def is_truncation(self) -> bool:
        """Whether the reply was cut short."""
        return self is not FinishReason.STOP


@dataclass(frozen=True, slots=True, order=True)
class EpisodeKey:
    """Names an episode of a run; episodes are sorted by it, never by arrival."""

    phase: str
    """``train``, or ``eval/<set>``."""
    step: int
    """Number of the update that it is played for, from 0; of evaluations, updates done before."""
    task: int
    """Position of the task in the step's list of tasks."""
    sample: int
    """Position of the episode in its group."""


@dataclass(frozen=True, slots=True)
class DrawKey:
    """Names one completion; with the token's position it determines every draw (invariant 7)."""

    seed: int
    episode: EpisodeKey
    agent: str
    call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a completion is drawn."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token, whose recorded log-prob is then 0."""
    max_tokens: int = 64
    """At most so many tokens, the stop token included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionChange:
    """Other weights that took over in the middle of a completion."""

    position: int
    """Index of the first token that they sampled, > 0."""
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a sampler returned for one prompt."""

    token_ids: tuple[int, ...]
    """[T] sampled tokens, the stop token included."""
    logprobs: tuple[float, ...]
    """[T] log-prob of each sampled token."""
    finish_reason: FinishReason
    policy_version: int
    """Version of the weights that sampled the first token, and those up to a change."""
    version_changes: tuple[VersionChange, ...] = ()
    """By ascending position; empty where one version sampled every token."""

    @property
    def versions(self) -> tuple[int, ...]:
        """[T] version of the weights that sampled each token.

        >>> Completion(token_ids=(5, 6, 7), logprobs=(-1, -1, -1), policy_version=3,
        ...     finish_reason=FinishReason.STOP,
        ...     version_changes=(VersionChange(position=1, version=4),)).versions
        (3, 4, 4)
        """
        versions = [self.policy_version] * len(self.token_ids)
        for change in self.version_changes:
            versions[change.position :] = [change.version] * (len(versions) - change.position)
        return tuple(versions)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One answered call, with the exact tokens of both sides."""

    call: ChatCall
    reply: ChatReply
    prompt_ids: tuple[int, ...]
    """[P] the tokens that the sampler saw."""
    completion: Completion
    extends: int | None
    """``index`` of the call of the same agent whose prompt and completion this prompt begins with,
    token for token; None where the prompt was rendered anew."""
    params: SamplingParams


class EpisodeStatus(StrEnum):
    """How an episode ended."""

    COMPLETED = "completed"
    TRUNCATED = "truncated"
    """A limit cut it short: it is trained, with its future unknown."""
    FAILED = "failed"
    """Something broke: it is dropped with its reason, never scored as a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A finished episode."""

    key: EpisodeKey
    task_id: str
    calls: tuple[CallRecord, ...]
    """Sorted by (agent, index)."""
    status: EpisodeStatus
    reason: str = ""
    """Why it failed or was truncated; empty otherwise."""
    by_chance: bool = False
    """Whether it failed of what a second run of the same seed need not meet: of the clock, or of a
    service and not of its agents."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Reward of every agent that made a call; empty if the episode failed."""
    call_rewards: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """What of it fell with each of the agent's calls, in their order; what is left of the reward,
    all of it for an agent that is not named, falls with the last call that is trained."""
    success: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Figures of workflow and judge, by metric name."""
    result: WorkflowResult | None = None
    """What was judged, so that it can be judged again; None if the episode failed, or its output is
    not what JSON can hold."""
    given: tuple[GivenReward, ...] = ()
    """What the workflow itself gave to agents that made a call; it is among ``rewards``."""
    attempts: int = 1
    """1 plus how often the episode was run again after a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All episodes of one task in one step, in sample order."""

    task_id: str
    episodes: tuple[Episode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledSpan:
    """One completion's place in a timeline: ``token_ids[start:stop]`` were sampled by ``call``."""

    call: int
    start: int
    stop: int
    logprobs: tuple[float, ...]
    """[stop - start] under the distribution sampled from."""
    params: SamplingParams
    reward: float = 0.0
    """What fell with the call. What is left of its agent's reward falls with the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Calls of one agent that extend each other, as one row of tokens."""

    token_ids: tuple[int, ...]
    """[T] context and sampled tokens in order."""
    spans: tuple[SampledSpan, ...]
    """The tokens to train, in call order; every other token is context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEpisode:
    """One trained agent's part in an episode: the unit of reward, baseline and weight."""

    episode: EpisodeKey
    agent: str
    role: str
    reward: float
    truncated: bool
    """True if its future is unknown: a value estimate bootstraps from its last state."""
    timelines: tuple[Timeline, ...]
    """How its calls are cut into rows; no weight, baseline or return depends on the cut."""

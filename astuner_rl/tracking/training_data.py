"""Which sampled tokens are trained, and why the others are not: nothing lost, nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from astuner_rl.tracking.certificate import Certificate, certify
from astuner_rl.tracking.timelines import build_timelines
from astuner_rl.types import (
    AgentEpisode,
    CallRecord,
    Episode,
    EpisodeStatus,
    FinishReason,
    Group,
)


class MaskReason(StrEnum):
    """Why a sampled token is not trained."""

    FAILED_EPISODE = "failed_episode"
    UNTRAINED_ROLE = "untrained_role"
    ABORTED_CALL = "aborted_call"
    UNUSED_GROUP = "unused_group"
    """Its episodes all earned the same, or there were enough other groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a step learns from, with an account of every token that was sampled for it."""

    agent_episodes: tuple[AgentEpisode, ...]
    """Sorted by (episode, agent), whatever the order of arrival."""
    sampled: int
    """Tokens that the sampler returned, but to attempts that failed and were repeated."""
    masked: Mapping[MaskReason, int]
    """Tokens in no span of ``agent_episodes``, by reason."""
    certificate: Certificate
    """That it holds, and that ``sampled == certificate.trained + sum(masked.values())``, was
    checked."""


def mask_reason(
    record: CallRecord, episode: Episode, *, trainable: Collection[str] | None
) -> MaskReason | None:
    """Return why a call's tokens are not trained, or None if they are.

    Args:
        record: One call of the episode.
        episode: The episode, with its outcome.
        trainable: Roles that learn; None for all.
    """
    if episode.status is EpisodeStatus.FAILED:
        return MaskReason.FAILED_EPISODE
    if trainable is not None and record.call.role not in trainable:
        return MaskReason.UNTRAINED_ROLE
    if record.completion.finish_reason is FinishReason.ABORT:
        return MaskReason.ABORTED_CALL
    return None


def training_data(
    groups: Sequence[Group],
    *,
    trainable: Collection[str] | None,
    unused: Sequence[Group] = (),
) -> TrainingData:
    """Turn a step's groups into agent-episodes.

    Args:
        groups: To be trained on.
        trainable: Roles that learn; None for all.
        unused: Sampled besides, and only accounted for.

    Raises:
        RuntimeError: A token is lost, twice in the rows, or in another context than it was sampled
            in: a defect of this package, which must not become a gradient.
    """
    agent_episodes: list[AgentEpisode] = []
    masked: Counter[MaskReason] = Counter()
    sampled = 0
    for episode in (episode for group in groups for episode in group.episodes):
        for _, agent_calls in groupby(episode.calls, key=lambda record: record.call.agent):
            records = tuple(agent_calls)
            trained_calls = set()
            for record in records:
                tokens = len(record.completion.token_ids)
                sampled += tokens
                reason = mask_reason(record, episode, trainable=trainable)
                if reason is None:
                    trained_calls.add(record.call.index)
                else:
                    masked[reason] += tokens
            if trained_calls:
                agent_episodes.append(_agent_episode(episode, records, trained=trained_calls))
    for record in (r for group in unused for episode in group.episodes for r in episode.calls):
        sampled += len(record.completion.token_ids)
        masked[MaskReason.UNUSED_GROUP] += len(record.completion.token_ids)
    agent_episodes.sort(key=lambda unit: (unit.episode, unit.agent))
    certificate = certify(
        agent_episodes, [episode for group in groups for episode in group.episodes]
    )
    if not certificate.holds or sampled != certificate.trained + sum(masked.values()):
        raise RuntimeError(
            "every sampled token must be trained once, in its own context, or masked with a "
            f"reason: sampled {sampled}, masked {dict(masked)}, {certificate}"
        )
    return TrainingData(
        agent_episodes=tuple(agent_episodes),
        sampled=sampled,
        masked=masked,
        certificate=certificate,
    )


def _agent_episode(
    episode: Episode, records: Sequence[CallRecord], *, trained: Collection[int]
) -> AgentEpisode:
    call = records[0].call
    return AgentEpisode(
        episode=episode.key,
        agent=call.agent,
        role=call.role,
        reward=episode.rewards[call.agent],
        truncated=episode.status is EpisodeStatus.TRUNCATED,
        timelines=build_timelines(
            records, trained=trained, rewards=episode.call_rewards.get(call.agent, ())
        ),
    )

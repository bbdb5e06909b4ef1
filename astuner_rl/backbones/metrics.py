"""The figures of a step, as ``metrics.jsonl`` names them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from statistics import fmean

from astuner_rl.tracing.averages import mean_by_name
from astuner_rl.tracking.training_data import TrainingData
from astuner_rl.types import Episode, EpisodeStatus, FinishReason, Group


def rollout_metrics(
    groups: Sequence[Group], data: TrainingData, *, trainable: Collection[str] | None
) -> dict[str, float]:
    """Return the figures of one step's episodes.

    Rewards, success and the environment's own metrics are means over the episodes that did not
    fail, whether they are trained on or not; rewards are those of trained roles.

    Args:
        groups: All that were sampled.
        data: What is trained on.
        trainable: Roles that learn; None for all.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    scored = [episode for episode in episodes if episode.status is not EpisodeStatus.FAILED]
    calls = [record for episode in episodes for record in episode.calls]
    metrics: dict[str, float] = {
        "episodes/started": len(episodes),
        "episodes/dropped": len(episodes) - len(scored),
        "episodes/truncated": sum(e.status is EpisodeStatus.TRUNCATED for e in episodes),
        "episodes/retried": sum(e.attempts > 1 for e in episodes),
        "tokens/sampled": data.sampled,
        "tokens/trained": data.certificate.trained,
        "tokens/duplicated": data.certificate.duplicated,
        "tokens/unfaithful": data.certificate.unfaithful,
    }
    metrics |= {f"tokens/masked/{reason}": count for reason, count in data.masked.items()}
    if scored:
        metrics["reward/accuracy"] = fmean(episode.success for episode in scored)
        metrics |= _reward_metrics(scored, trainable=trainable)
        metrics |= mean_by_name(episode.metrics for episode in scored)
    if calls:
        metrics["calls/mean"] = len(calls) / len(episodes)
        metrics["calls/truncated"] = fmean(
            record.completion.finish_reason is FinishReason.LENGTH for record in calls
        )
        metrics["calls/malformed_tool_call"] = fmean(r.reply.malformed_tool_call for r in calls)
    return metrics


def staleness_metrics(episodes: Sequence[Episode], *, version: int) -> dict[str, float]:
    """Return by how many updates the weights that sampled a token lag behind those trained.

    Args:
        episodes: What is trained on.
        version: Of the weights before the update.
    """
    lags = [
        version - sampled_by
        for episode in episodes
        for record in episode.calls
        for sampled_by in record.completion.versions
    ]
    return {"staleness/mean": fmean(lags), "staleness/max": max(lags)} if lags else {}


def _reward_metrics(
    episodes: Sequence[Episode], *, trainable: Collection[str] | None
) -> dict[str, float]:
    by_role: defaultdict[str, list[float]] = defaultdict(list)
    for episode in episodes:
        roles = {record.call.agent: record.call.role for record in episode.calls}
        for agent, role in roles.items():
            if trainable is None or role in trainable:
                by_role[role].append(episode.rewards[agent])
    metrics = {f"reward/{role}/mean": fmean(rewards) for role, rewards in by_role.items()}
    if by_role:
        metrics["reward/mean"] = fmean(reward for earned in by_role.values() for reward in earned)
    return metrics


def failure_reasons(episodes: Sequence[Episode], *, at_most: int = 3) -> str:
    """Return the commonest reasons of failed episodes, as text for an error message.

    Reasons that differ in nothing but the task count as one.
    """
    counts: defaultdict[str, int] = defaultdict(int)
    for episode in episodes:
        if episode.status is EpisodeStatus.FAILED:
            counts[episode.reason.replace(f"task {episode.task_id}", "a task")] += 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{count} x {reason}" for reason, count in ranked[:at_most])

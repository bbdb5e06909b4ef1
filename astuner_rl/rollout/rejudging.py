"""Episodes judged once more: by a judge of groups in training, or by another judge afterwards."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from astuner_gym.episode import is_cancelled
from astuner_gym.errors import BrokenJudgeError, JudgeError, UnusableInputError
from astuner_gym.judge import GroupJudge, Score
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult
from astuner_rl.types import Episode, EpisodeStatus


def kept_result(result: WorkflowResult) -> WorkflowResult | None:
    """Return a result as a log gives it back; None if JSON cannot hold its output."""
    try:
        output = json.loads(json.dumps(result.output, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return None  # a workflow may return anything, whatever the annotation says
    return replace(result, output=output)


def rejudged(episode: Episode, score: Score) -> Episode:
    """Return an episode that did not fail with another score, to which what was given is added.

    The figures of its judge are those of the score, and so is its success.

    Raises:
        JudgeError: An agent has no finite reward, or a reward belongs to no call.
    """
    calls = Counter(record.call.agent for record in episode.calls)
    # An opponent's calls are not on record: its agents earn nothing here.
    by_call = {agent: each for agent, each in score.call_rewards.items() if agent in calls}
    total = replace(score, call_rewards=by_call).with_given(episode.given, calls=calls)
    others = {
        name: value for name, value in episode.metrics.items() if not name.startswith("judge/")
    }
    return replace(
        episode,
        rewards={agent: total.reward(agent) for agent in calls},
        call_rewards=total.rewards_by_call(calls=calls),
        success=score.success,
        metrics=others | {f"judge/{name}": value for name, value in score.metrics.items()},
    )


async def judge_group(
    judge: GroupJudge, task: Task, episodes: Sequence[Episode]
) -> tuple[Episode, ...]:
    """Return a group's episodes with rewards by comparison; those that failed stay as they are.

    Success and figures are still those of each episode's own judge; what it gave, on average over
    agents, is the figure ``judge/alone``, and those of the comparison are ``judge/group/<name>``.
    If the group cannot be compared, all of it is dropped with the reason.

    Raises:
        UnusableInputError: The task's data is at fault.
        BrokenJudgeError: The judge can compare nothing any more.
    """
    judged = [episode for episode in episodes if episode.status is not EpisodeStatus.FAILED]
    if not judged:
        return tuple(episodes)
    try:
        scores = await judge.score_group(task, [_result(episode) for episode in judged])
        compared = {
            episode.key: _compared(episode, score)
            for episode, score in zip(judged, scores, strict=True)
        }
    except (UnusableInputError, BrokenJudgeError):
        raise
    except (Exception, asyncio.CancelledError) as error:
        # A user's judge may raise anything; it is named and kept.
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        reason = str(error) if isinstance(error, JudgeError) else f"judge raised: {error!r}"
        compared = {
            episode.key: dropped(episode, f"{JudgeError.__name__}: {reason}") for episode in judged
        }
    return tuple(compared.get(episode.key, episode) for episode in episodes)


def _result(episode: Episode) -> WorkflowResult:
    if episode.result is None:
        raise JudgeError(
            f"task {episode.task_id}: episodes can be compared only if their output is what JSON "
            "can hold; return text, numbers, lists or objects from the workflow"
        )
    return episode.result


def _compared(episode: Episode, score: Score) -> Episode:
    figures = {f"judge/group/{name}": value for name, value in score.metrics.items()}
    if episode.rewards:
        figures["judge/alone"] = fmean(episode.rewards.values())
    return replace(
        rejudged(episode, score),
        success=episode.success,
        metrics={**episode.metrics, **figures},
    )


def dropped(episode: Episode, reason: str) -> Episode:
    """Return the episode as one that has no verdict."""
    return replace(
        episode,
        status=EpisodeStatus.FAILED,
        reason=reason,
        rewards={},
        call_rewards={},
        success=False,
        metrics={},
        result=None,
        given=(),
    )

"""Groups: several episodes of each task, run concurrently and returned in a fixed order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from astuner_gym.judge import GroupJudge
from astuner_gym.task import Task
from astuner_rl.rollout.rejudging import judge_group
from astuner_rl.rollout.runner import Runner
from astuner_rl.types import Episode, EpisodeKey, Group, SamplingParams


async def collect_groups(
    runner: Runner,
    tasks: Sequence[Task],
    *,
    phase: str,
    step: int,
    samples: int,
    params: SamplingParams,
    first_position: int = 0,
    slots: asyncio.Semaphore | None = None,
    group_judge: GroupJudge | None = None,
) -> list[Group]:
    """Run ``samples`` episodes of every task.

    The result is ordered by task and sample, and no draw depends on the order of arrival.

    Args:
        runner: Runs each episode.
        tasks: One group for each.
        phase: First part of every episode's key.
        step: Number of updates that the policy has seen.
        samples: Episodes of each task.
        params: How their completions are drawn.
        first_position: Number of the first task among those of the step.
        slots: Bounds how many episodes run at once, those of other calls included; None admits
            ``runner.config.concurrency`` of this call.
        group_judge: Rewards the episodes of a group as soon as all of them have ended; None leaves
            the rewards that each has.
    """
    own_slots = slots or asyncio.Semaphore(runner.config.concurrency)

    async def run(task: Task, key: EpisodeKey) -> Episode:
        async with own_slots:
            return await runner.run(task, key, params=params)

    async def group(task: Task, playing: Sequence[asyncio.Task[Episode]]) -> Group:
        episodes = tuple([await episode for episode in playing])
        if group_judge is not None:
            episodes = await judge_group(group_judge, task, episodes)
        return Group(task_id=task.id, episodes=episodes)

    try:
        async with asyncio.TaskGroup() as running:
            started = [
                [
                    running.create_task(run(task, EpisodeKey(phase, step, position, sample)))
                    for sample in range(samples)
                ]
                for position, task in enumerate(tasks, start=first_position)
            ]
            groups = [
                running.create_task(group(task, playing))
                for task, playing in zip(tasks, started, strict=True)
            ]
    except BaseExceptionGroup as failures:
        # The first failure cancelled the rest; it says what went wrong.
        raise failures.exceptions[0] from failures
    return [each.result() for each in groups]

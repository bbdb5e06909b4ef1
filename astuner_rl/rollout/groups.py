"""Groups: several episodes of each task, run concurrently and returned in a fixed order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from astuner_gym.task import Task
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
    """
    own_slots = slots or asyncio.Semaphore(runner.config.concurrency)

    async def run(task: Task, key: EpisodeKey) -> Episode:
        async with own_slots:
            return await runner.run(task, key, params=params)

    try:
        async with asyncio.TaskGroup() as running:
            started = [
                [
                    running.create_task(run(task, EpisodeKey(phase, step, position, sample)))
                    for sample in range(samples)
                ]
                for position, task in enumerate(tasks, start=first_position)
            ]
    except BaseExceptionGroup as failures:
        # The first failure cancelled the rest; it says what went wrong.
        raise failures.exceptions[0] from failures
    return [
        Group(task_id=task.id, episodes=tuple(episode.result() for episode in episodes))
        for task, episodes in zip(tasks, started, strict=True)
    ]

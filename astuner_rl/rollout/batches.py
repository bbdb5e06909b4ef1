"""The batches of a run, played in their order and ahead of the policy as far as is allowed.

The groups of step ``s`` are trained by update ``s + 1``. They start as soon as the policy has had
``s - max_staleness`` updates, so no token is older than ``max_staleness`` updates when it is
trained on, whatever an episode takes: nothing need be thrown away for its age. And since batches
are trained in the order in which they were started, long episodes are trained as often as short
ones. With ``max_staleness`` 0 sampling and learning take turns.

Unless they are ``interleaved``, one batch is played after the other. Whoever then changes the
weights only when all that were started have ended has each batch sampled by one version, that of
``max_staleness`` updates before: which tokens there are depends on no clock.

Worked example, ``max_staleness`` 1, where an update takes as long as a batch:

    sampler   batch 0   batch 1   batch 2   batch 3
    learner             update 1  update 2  update 3
    version   0         0         1         2

Batch 1 is sampled by version 0 and trained on by version 1: it lags behind by one update.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from astuner_gym.environment import Environment
from astuner_gym.task import Task, task_indices
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.dynamic_sampling import Drawn, draw_groups
from astuner_rl.rollout.groups import collect_groups
from astuner_rl.rollout.runner import Runner
from astuner_rl.types import Episode, EpisodeKey, Group, SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """What a batch is."""

    steps: int
    """Batches of the run."""
    groups: int
    """Tasks of a draw."""
    group_size: int
    """Episodes of a task."""
    most_draws: int
    """Draws of a batch, at most."""
    max_staleness: int
    """Updates by which a batch may start before the policy that it is trained by is there."""
    seed: int
    """Names the order of the tasks."""
    trainable: Collection[str] | None
    """Roles that learn; None for all."""
    interleaved: bool = False
    """Whether a batch takes the places of episodes of an older one that have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAhead:
    """A batch that was started and not trained on: what a checkpoint keeps of it."""

    step: int
    starts: tuple[int, ...]
    """Where each of its draws begins in the stream of tasks."""
    episodes: tuple[Episode, ...]
    """Those that have ended; the others are played again."""


class BatchStream:
    """Plays the batches of a run; use it as an asynchronous context manager.

    Args:
        runner: Plays each episode.
        settings: What a batch is.
        step: Batch to begin with.
        drawn: Tasks drawn for training so far, by ``ahead`` too.
        ahead: Batches that an earlier process began.
    """

    def __init__(
        self,
        runner: Runner,
        settings: BatchSettings,
        *,
        step: int,
        drawn: int,
        ahead: Sequence[BatchAhead] = (),
    ) -> None:
        self._runner = runner
        self._settings = settings
        self._drawn = drawn
        self._next = step
        self._begun = {batch.step: batch for batch in ahead}
        self._batches: dict[int, _Batch] = {}
        # Shared by all batches, first come first served: the oldest batch is played first, and a
        # newer one by what it leaves. With more slots than that, both would end late, together.
        self._slots = asyncio.Semaphore(
            min(runner.config.concurrency, settings.groups * settings.group_size)
        )
        self._turn = asyncio.Semaphore(1 + settings.max_staleness if settings.interleaved else 1)

    async def __aenter__(self) -> BatchStream:
        return self

    async def __aexit__(self, *error: object) -> None:
        """End every batch that is being played."""
        tasks = [batch.task for batch in self._batches.values()]
        for task in tasks:
            task.cancel()
        # What a batch that nobody takes any more ran into is of no account.
        await asyncio.gather(*tasks, return_exceptions=True)
        self._batches.clear()

    @property
    def drawn(self) -> int:
        """Tasks drawn for training so far."""
        return self._drawn

    @property
    def ahead(self) -> tuple[BatchAhead, ...]:
        """The batches that were started and not taken."""
        return tuple(
            BatchAhead(
                step=step,
                starts=tuple(batch.starts),
                episodes=tuple(batch.played[key] for key in sorted(batch.played)),
            )
            for step, batch in sorted(self._batches.items())
        )

    def policy_is_at(self, version: int) -> None:
        """Start the batches that may be sampled by the weights of ``version``."""
        last = min(version + self._settings.max_staleness, self._settings.steps - 1)
        while self._next <= last:
            step = self._next
            self._next += 1
            begun = self._begun.pop(step, BatchAhead(step=step, starts=(), episodes=()))
            batch = _Batch(
                runner=self._runner,
                starts=list(begun.starts),
                played={episode.key: episode for episode in begun.episodes},
            )
            self._batches[step] = batch
            if not batch.starts:
                self._extend(batch)
            batch.task = asyncio.create_task(self._play(step, batch))

    async def ended(self) -> None:
        """Wait until every batch that was started has been played."""
        playing = [batch.task for batch in self._batches.values() if not batch.task.done()]
        if playing:
            await asyncio.wait(playing)  # what one of them ran into, ``take`` raises

    async def take(self, step: int) -> Drawn:
        """Return the batch of ``step`` when it has been played.

        Raises:
            UnusableInputError: A task's data or a setting is at fault.
        """
        drawn = await self._batches[step].task
        del self._batches[step]
        return drawn

    async def _play(self, step: int, batch: _Batch) -> Drawn:
        settings = self._settings

        async def draw(number: int) -> list[Group]:
            if number == len(batch.starts):
                self._extend(batch)
            return await collect_groups(
                batch,
                list(self._tasks(batch.starts[number])),
                phase="train",
                step=step,
                samples=settings.group_size,
                params=self._runner.config.params,
                first_position=number * settings.groups,
                slots=self._slots,
                group_judge=self._runner.environment.group_judge,
            )

        async with self._turn:
            return await draw_groups(
                draw,
                wanted=settings.groups,
                most_draws=settings.most_draws,
                trainable=settings.trainable,
            )

    def _extend(self, batch: _Batch) -> None:
        """Give a batch the next tasks of the stream."""
        batch.starts.append(self._drawn)
        self._drawn += self._settings.groups

    def _tasks(self, start: int) -> Iterator[Task]:
        source = self._runner.environment.train_tasks
        indices = task_indices(
            seed=self._settings.seed, size=len(source), start=start, count=self._settings.groups
        )
        return (source[index] for index in indices)


@dataclass(slots=True, kw_only=True)
class _Batch:
    """A batch being played, and a runner that remembers what was played for it."""

    runner: Runner
    starts: list[int]
    played: dict[EpisodeKey, Episode]
    task: asyncio.Task[Drawn] = field(init=False)

    @property
    def environment(self) -> Environment:
        """That of the runner."""
        return self.runner.environment

    @property
    def config(self) -> RolloutConfig:
        """That of the runner."""
        return self.runner.config

    async def run(self, task: Task, key: EpisodeKey, *, params: SamplingParams) -> Episode:
        """Return the episode that an earlier process played, or play it."""
        if key not in self.played:
            self.played[key] = await self.runner.run(task, key, params=params)
        return self.played[key]

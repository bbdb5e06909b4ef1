"""Batches are played ahead of the policy, in order, and no further than is allowed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.environment import Environment
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.rollout.batches import BatchAhead, BatchSettings, BatchStream
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.types import (
    CallRecord,
    Completion,
    Episode,
    EpisodeKey,
    EpisodeStatus,
    FinishReason,
    SamplingParams,
)

TASKS = 7


class Unused:
    """A workflow that is never run: the runner below plays episodes itself."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        raise NotImplementedError


@dataclass
class PatientRunner:
    """Plays an episode by waiting as many turns of the event loop as it is told."""

    turns: Sequence[int] = (0,)
    """Of the episodes in the order of their start; they begin again after the last."""
    version: int = 0
    """Of the weights that sample now."""
    concurrency: int = 256
    started: list[EpisodeKey] = field(default_factory=list)
    ended: list[EpisodeKey] = field(default_factory=list)
    most_at_once: int = 0

    @property
    def environment(self) -> Environment:
        tasks = RecordTasks("task", [{"n": str(i)} for i in range(TASKS)])
        return Environment(
            name="patient",
            workflow=Unused(),
            judge=FunctionJudge(lambda task, result: 0.0),
            train_tasks=tasks,
            eval_tasks={},
        )

    @property
    def config(self) -> RolloutConfig:
        return RolloutConfig(concurrency=self.concurrency)

    async def run(self, task: Task, key: EpisodeKey, *, params: SamplingParams) -> Episode:
        turns = self.turns[len(self.started) % len(self.turns)]
        self.started.append(key)
        self.most_at_once = max(self.most_at_once, len(self.started) - len(self.ended))
        for _ in range(turns):
            await asyncio.sleep(0)
        self.ended.append(key)
        return self.episode(task.id, key)

    def episode(self, task_id: str, key: EpisodeKey) -> Episode:
        """One call, sampled by the version of now; its reward is the episode's sample."""
        call = CallRecord(
            call=ChatCall(agent="a", role="a", index=0, messages=()),
            reply=ChatReply(text=""),
            prompt_ids=(1,),
            completion=Completion(
                token_ids=(2,),
                logprobs=(0.0,),
                finish_reason=FinishReason.STOP,
                policy_version=self.version,
            ),
            extends=None,
            params=self.config.params,
        )
        return Episode(
            key=key,
            task_id=task_id,
            calls=(call,),
            status=EpisodeStatus.COMPLETED,
            rewards={"a": float(key.sample)},
        )


def batches(
    *, steps: int = 4, max_staleness: int = 0, most_draws: int = 1, interleaved: bool = True
) -> BatchSettings:
    return BatchSettings(
        steps=steps,
        groups=2,
        group_size=2,
        most_draws=most_draws,
        max_staleness=max_staleness,
        seed=0,
        trainable=None,
        interleaved=interleaved,
    )


async def trained(
    runner: PatientRunner, stream: BatchStream, *, steps: int, first: int = 0, learn_turns: int = 0
) -> list[list[Episode]]:
    """Take every batch, learn for some turns of the event loop, and move the version on."""
    taken = []
    for step in range(first, steps):
        stream.policy_is_at(step)
        drawn = await stream.take(step)
        taken.append([episode for group in drawn.used for episode in group.episodes])
        for _ in range(learn_turns):
            await asyncio.sleep(0)
        runner.version = step + 1
    return taken


@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(st.integers(0, 12), min_size=1, max_size=9),
    learn_turns=st.integers(0, 12),
    max_staleness=st.integers(0, 3),
    concurrency=st.sampled_from([1, 3, 256]),
)
def test_no_batch_is_older_than_allowed_and_none_is_lost_or_doubled(
    turns: list[int], learn_turns: int, max_staleness: int, concurrency: int
) -> None:
    async def run() -> tuple[PatientRunner, list[list[Episode]]]:
        runner = PatientRunner(turns=turns, concurrency=concurrency)
        async with BatchStream(
            runner, batches(steps=6, max_staleness=max_staleness), step=0, drawn=0
        ) as stream:
            taken = await trained(runner, stream, steps=6, learn_turns=learn_turns)
            assert stream.ahead == ()
            assert stream.drawn == 12
        return runner, taken

    runner, taken = asyncio.run(run())
    expected = [EpisodeKey("train", s, t, n) for s in range(6) for t in (0, 1) for n in (0, 1)]
    assert [episode.key for batch in taken for episode in batch] == expected
    assert sorted(runner.started) == expected
    assert runner.most_at_once <= concurrency
    lags = {
        step - episode.calls[0].completion.policy_version
        for step, batch in enumerate(taken)
        for episode in batch
    }
    assert min(lags) >= 0 and max(lags) <= max_staleness


def test_the_worked_example() -> None:
    async def run() -> list[set[int]]:
        runner = PatientRunner(turns=(3,))
        settings = batches(steps=4, max_staleness=1)
        async with BatchStream(runner, settings, step=0, drawn=0) as stream:
            taken = await trained(runner, stream, steps=4, learn_turns=6)
        return [{e.calls[0].completion.policy_version for e in batch} for batch in taken]

    assert asyncio.run(run()) == [{0}, {0}, {1}, {2}]


def test_a_newer_batch_has_what_the_older_one_leaves() -> None:
    async def run() -> list[int]:
        runner = PatientRunner(turns=(20, 1, 20, 1, 1, 1, 20, 20))
        settings = batches(steps=2, max_staleness=1)
        async with BatchStream(runner, settings, step=0, drawn=0) as stream:
            await trained(runner, stream, steps=2)
        assert runner.most_at_once == 4
        return [key.step for key in runner.ended]

    # Two short episodes of the first batch end, and two of the second take their places.
    assert asyncio.run(run()) == [0, 0, 1, 1, 0, 0, 1, 1]


@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(st.integers(0, 12), min_size=1, max_size=9),
    learn_turns=st.integers(0, 12),
    max_staleness=st.integers(0, 3),
)
def test_with_one_batch_after_the_other_versions_depend_on_no_clock(
    turns: list[int], learn_turns: int, max_staleness: int
) -> None:
    async def run() -> list[set[int]]:
        runner = PatientRunner(turns=turns)
        settings = batches(steps=6, max_staleness=max_staleness, interleaved=False)
        async with BatchStream(runner, settings, step=0, drawn=0) as stream:
            versions = []
            for step in range(6):
                stream.policy_is_at(step)
                drawn = await stream.take(step)
                episodes = [episode for group in drawn.used for episode in group.episodes]
                versions.append({e.calls[0].completion.policy_version for e in episodes})
                for _ in range(learn_turns):
                    await asyncio.sleep(0)
                await stream.ended()
                runner.version = step + 1
        order = [key.step for key in runner.ended]
        assert order == sorted(order)
        return versions

    assert asyncio.run(run()) == [{max(0, step - max_staleness)} for step in range(6)]


def test_long_episodes_are_trained_as_often_as_they_are_started() -> None:
    async def run() -> Counter[str]:
        # Of two episodes one takes forty times as long.
        runner = PatientRunner(turns=(1, 40))
        settings = batches(steps=20, max_staleness=2)
        async with BatchStream(runner, settings, step=0, drawn=0) as stream:
            taken = await trained(runner, stream, steps=20)
        position = {key: index for index, key in enumerate(runner.started)}
        return Counter(
            "long" if position[episode.key] % 2 else "short" for batch in taken for episode in batch
        )

    assert asyncio.run(run()) == {"long": 40, "short": 40}


def test_tasks_follow_the_seeded_order_whatever_the_staleness() -> None:
    async def tasks(max_staleness: int) -> list[str]:
        runner = PatientRunner(turns=(5, 0, 3))
        settings = batches(steps=6, max_staleness=max_staleness)
        async with BatchStream(runner, settings, step=0, drawn=0) as stream:
            taken = await trained(runner, stream, steps=6)
        return [episode.task_id for batch in taken for episode in batch]

    synchronous = asyncio.run(tasks(0))
    assert asyncio.run(tasks(2)) == synchronous
    assert len(set(synchronous)) == TASKS


def test_what_had_ended_is_not_played_again_and_the_rest_is() -> None:
    async def run() -> tuple[tuple[BatchAhead, ...], PatientRunner, list[list[Episode]], int]:
        first = PatientRunner(turns=(0, 10**6))
        settings = batches(steps=3, max_staleness=2)
        async with BatchStream(first, settings, step=0, drawn=0) as stream:
            stream.policy_is_at(0)
            for _ in range(5):
                await asyncio.sleep(0)
            ahead, drawn = stream.ahead, stream.drawn
        second = PatientRunner(version=9)
        async with BatchStream(second, settings, step=0, drawn=drawn, ahead=ahead) as stream:
            taken = await trained(second, stream, steps=3)
            return ahead, second, taken, stream.drawn

    ahead, second, taken, drawn = asyncio.run(run())
    assert [(batch.step, batch.starts, len(batch.episodes)) for batch in ahead] == [
        (0, (0,), 2),
        (1, (2,), 2),
        (2, (4,), 0),  # the long ones of both others leave it no place
    ]
    assert drawn == 6
    kept = {episode.key for batch in ahead for episode in batch.episodes}
    assert len(second.started) == 8 and not kept & set(second.started)
    assert [len(batch) for batch in taken] == [4, 4, 4]
    assert {e.calls[0].completion.policy_version for e in taken[0]} == {0, 9}


def test_further_draws_take_the_next_tasks_of_the_stream() -> None:
    """Nothing differs when samples earn the same: each batch draws twice."""

    @dataclass
    class Agreeing(PatientRunner):
        def episode(self, task_id: str, key: EpisodeKey) -> Episode:
            episode = super().episode(task_id, key)
            return Episode(
                key=key,
                task_id=task_id,
                calls=episode.calls,
                status=EpisodeStatus.COMPLETED,
                rewards={"a": 1.0},
            )

    async def run() -> tuple[list[EpisodeKey], int]:
        runner = Agreeing()
        settings = batches(steps=2, max_staleness=1, most_draws=2)
        async with BatchStream(runner, settings, step=0, drawn=0) as stream:
            await trained(runner, stream, steps=2)
            return runner.started, stream.drawn

    started, drawn = asyncio.run(run())
    assert drawn == 8
    assert sorted(started) == [
        EpisodeKey("train", s, t, n) for s in range(2) for t in range(4) for n in range(2)
    ]


def test_leaving_ends_what_is_played() -> None:
    async def run() -> None:
        runner = PatientRunner(turns=(10**6,))
        settings = batches(steps=3, max_staleness=2)
        before = asyncio.all_tasks()
        with pytest.raises(RuntimeError, match="learner"):
            async with BatchStream(runner, settings, step=0, drawn=0) as stream:
                stream.policy_is_at(0)
                await asyncio.sleep(0)
                raise RuntimeError("learner")
        assert asyncio.all_tasks() == before

    asyncio.run(run())

"""Groups: the same whatever came first, and never too many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
from agentscope.message import UserMsg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.errors import TaskDataError
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.rollout.groups import collect_groups
from astuner_rl.types import EpisodeKey, Group, SamplingParams

RunnerOf: TypeAlias = Callable[..., tuple[EpisodeRunner, Any]]

SOURCE = RecordTasks("task", [{"number": number} for number in range(9)])


async def greet(task: Task, models: Models) -> WorkflowResult:
    await models["ann"]([UserMsg("user", task.id)])
    return WorkflowResult(output=task.id)


def collect(runner: EpisodeRunner, *, tasks: Sequence[int], samples: int) -> list[Group]:
    return asyncio.run(
        collect_groups(
            runner,
            [SOURCE[index] for index in tasks],
            phase="train",
            step=4,
            samples=samples,
            params=SamplingParams(),
        )
    )


async def answer(key: EpisodeKey, call: ChatCall) -> ChatReply:
    return ChatReply(text=f"{key.task}.{key.sample}")


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.permutations(range(6)))
def test_groups_do_not_depend_on_the_order_of_arrival(
    runner_of: RunnerOf, order: Sequence[int]
) -> None:
    turn = {(place // 2, place % 2): rank for place, rank in enumerate(order)}
    arrived: list[tuple[int, int]] = []

    async def delayed(key: EpisodeKey, call: ChatCall) -> ChatReply:
        # Each answers when those before it in the order have: no clock is needed.
        while len(arrived) < turn[key.task, key.sample]:
            await asyncio.sleep(0)
        arrived.append((key.task, key.sample))
        return await answer(key, call)

    groups = collect(runner_of(greet, delayed)[0], tasks=[5, 5, 2], samples=2)
    assert arrived == sorted(turn, key=lambda place: turn[place])
    assert groups == collect(runner_of(greet, answer)[0], tasks=[5, 5, 2], samples=2)
    assert [group.task_id for group in groups] == ["task-5", "task-5", "task-2"]
    episodes = [episode for group in groups for episode in group.episodes]
    assert [episode.key for episode in episodes] == [
        EpisodeKey("train", 4, task, sample) for task in range(3) for sample in range(2)
    ]
    assert [episode.calls[0].reply.text for episode in episodes] == [
        "0.0", "0.1", "1.0", "1.1", "2.0", "2.1"
    ]  # fmt: skip


@pytest.mark.parametrize(("concurrency", "at_once"), [(1, 1), (3, 3), (100, 8)])
def test_so_many_episodes_run_at_once(runner_of: RunnerOf, concurrency: int, at_once: int) -> None:
    running: set[EpisodeKey] = set()
    most = 0

    async def counted(key: EpisodeKey, call: ChatCall) -> ChatReply:
        nonlocal most
        running.add(key)
        for _ in range(50):  # until all that may start have started
            await asyncio.sleep(0)
        most = max(most, len(running))
        running.remove(key)
        return await answer(key, call)

    config = RolloutConfig(concurrency=concurrency)
    groups = collect(runner_of(greet, counted, config=config)[0], tasks=[0, 1, 2, 3], samples=2)
    assert most == at_once
    assert [len(group.episodes) for group in groups] == [2, 2, 2, 2]


def test_unusable_input_ends_all_episodes(runner_of: RunnerOf) -> None:
    async def picky(task: Task, models: Models) -> WorkflowResult:
        if task.id == "task-1":
            return WorkflowResult(output=task.text("number"))
        return await greet(task, models)

    async def silent(key: EpisodeKey, call: ChatCall) -> ChatReply:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")

    runner, policy = runner_of(picky, silent)
    with pytest.raises(TaskDataError, match="task task-1: field 'number' must be text"):
        collect(runner, tasks=[0, 1, 2], samples=1)
    assert sorted(policy.released) == sorted(policy.opened)


def test_no_task_gives_no_group(runner_of: RunnerOf) -> None:
    assert collect(runner_of(greet, answer)[0], tasks=[], samples=2) == []

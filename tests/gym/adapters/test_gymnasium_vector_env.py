"""The vector environment: what Gymnasium's own makes of single ones, and failures kept apart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from agentscope.message import UserMsg
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from astuner_gym.adapters.gymnasium import GymnasiumEnv
from astuner_gym.adapters.gymnasium_vector import GymnasiumVectorEnv
from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult

Program = Callable[[Task, Models], Awaitable[WorkflowResult]]
COUNT = 4


class Scripted:
    """A workflow from a function."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        return await self._program(task, models)


async def say(models: Models, agent: str, text: str) -> str:
    response = await models[agent]([UserMsg("user", text)])
    return str(response.content[0].text)  # type: ignore[union-attr]


async def interview(task: Task, models: Models) -> WorkflowResult:
    """Ask as often as the task says; each answer is worth its length, and some are cut short."""
    number = int(task.text("question"))
    for turn in range(1 + number % 3):
        answer = await say(models, "solver", f"{number}, question {turn}?")
        models.reward("solver", float(len(answer)))
    return WorkflowResult(output=number, truncated=number % 2 == 0, metrics={"number": number})


def environment(program: Program = interview) -> Environment:
    return Environment(
        name="test",
        workflow=Scripted(program),
        judge=FunctionJudge(lambda task, result: 0.5),
        train_tasks=RecordTasks("t", [{"question": f"{number}"} for number in range(10)]),
    )


def gymnasiums_own(mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: GymnasiumEnv(environment())] * COUNT, autoreset_mode=mode)


def ours(
    mode: AutoresetMode = AutoresetMode.NEXT_STEP, *, program: Program = interview
) -> GymnasiumVectorEnv:
    return GymnasiumVectorEnv(environment(program), COUNT, autoreset_mode=mode)


def plain(value: Any) -> Any:
    """Arrays as lists, so that two results can be compared by ``==``."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in sorted(value.items())}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def actions(turn: int) -> tuple[str, ...]:
    return tuple("x" * Random(f"{turn}/{index}").randrange(5) for index in range(COUNT))


def played(env: VectorEnv[Any, Any, Any]) -> list[Any]:
    mode = env.metadata["autoreset_mode"]
    seen = [env.reset(seed=11)]
    for turn in range(12):
        step = env.step(actions(turn))
        seen.append(step)
        ended = step[2] | step[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            seen.append(env.reset(options={"reset_mask": ended}))
    seen.append(env.reset(seed=[5, None, 7, 5], options={"task": 3}))
    seen.append(env.step(actions(0)))
    env.close()
    return [plain(one) for one in seen]


@pytest.mark.parametrize("mode", AutoresetMode)
def test_it_gives_what_gymnasiums_own_vector_makes_of_single_environments(
    mode: AutoresetMode,
) -> None:
    results = played(ours(mode))
    assert results == played(gymnasiums_own(mode))
    assert ("final_obs" in str(results)) is (mode is AutoresetMode.SAME_STEP)


def test_the_mode_may_be_given_by_its_value_and_is_in_the_metadata() -> None:
    env = GymnasiumVectorEnv(environment(), 1, autoreset_mode="SameStep")
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    with pytest.raises(ValueError, match="Later"):
        GymnasiumVectorEnv(environment(), 1, autoreset_mode="Later")


def test_observations_and_samples_are_in_the_spaces() -> None:
    env = ours()
    observations, _ = env.reset(seed=1)
    assert observations in env.observation_space
    env.action_space.seed(1)
    sampled = env.action_space.sample()
    assert sampled in env.action_space
    assert env.step(sampled)[0] in env.observation_space
    env.close()


def test_a_disabled_reset_must_come_before_the_next_step() -> None:
    env = ours(AutoresetMode.DISABLED)
    env.reset(options={"task": 3})
    env.step(("",) * COUNT)
    with pytest.raises(ResetNeeded, match=r"episodes \[0, 1, 2, 3\] have ended"):
        env.step(("",) * COUNT)
    env.close()


@pytest.mark.parametrize(
    "mask",
    [[True] * COUNT, np.ones(COUNT), np.ones(COUNT + 1, dtype=bool), np.zeros(COUNT, dtype=bool)],
)
def test_a_reset_mask_names_episodes(mask: object) -> None:
    env = ours()
    with pytest.raises(SettingError, match=r"boolean array of shape \(4,\)"):
        env.reset(options={"reset_mask": mask})
    env.close()


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (("x",) * 3, "each of the 4 episodes needs an action, got 3"),
        (("x", "x", None, "x"), "episode 2: an action must be text or a ChatReply, got NoneType"),
    ],
)
def test_a_wrong_action_is_refused_and_may_be_corrected(wrong: Any, rule: str) -> None:
    env = ours()
    env.reset(options={"task": 0})
    with pytest.raises(InvalidAction, match=rule):
        env.step(wrong)
    assert list(env.step(("xx",) * COUNT)[1]) == [2.5] * COUNT
    env.close()


async def fail_on_bad_news(task: Task, models: Models) -> WorkflowResult:
    if await say(models, "solver", "News?") == "bad":
        raise ValueError("bad news")
    await say(models, "solver", "More?")
    return WorkflowResult(output=None)


async def both_at_once(task: Task, models: Models) -> WorkflowResult:
    if await say(models, "solver", "News?") == "bad":
        await asyncio.gather(*(say(models, agent, "Talk.") for agent in ("solver", "critic")))
    await say(models, "solver", "More?")
    return WorkflowResult(output=None)


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (fail_on_bad_news, "ValueError('bad news')"),
        (both_at_once, "one agent must act at a time in a single-agent environment"),
    ],
)
def test_an_episode_that_fails_is_truncated_without_reward(
    mode: AutoresetMode, program: Program, reason: str
) -> None:
    env = ours(mode, program=program)
    env.reset()
    _, rewards, terminations, truncations, infos = env.step(("good", "bad", "good", "good"))
    assert list(rewards) == [0.0] * COUNT
    assert not terminations.any()
    assert list(truncations) == [False, True, False, False]
    if mode is AutoresetMode.SAME_STEP:
        infos = infos["final_info"]
    assert reason in infos["error"][1]
    assert list(infos["_error"]) == [False, True, False, False]
    if mode is AutoresetMode.DISABLED:
        env.reset(options={"reset_mask": truncations})
    observations, rewards, terminations, truncations, _ = env.step(("good",) * COUNT)
    assert list(rewards) == [0.5, 0.0, 0.5, 0.5]
    assert list(terminations) == [True, False, True, True]
    assert not truncations.any()
    assert observations[1].endswith("News?" if mode is AutoresetMode.NEXT_STEP else "More?")
    env.close()


async def fail_at_once(task: Task, models: Models) -> WorkflowResult:
    if task.id == "t-0":
        raise ValueError("no start")
    if task.id == "t-1":
        return WorkflowResult(output="no call")
    return await interview(task, models)


@pytest.mark.parametrize(
    ("task", "reason"), [(0, "ValueError('no start')"), (1, "must call its model to be stepped")]
)
def test_an_episode_that_fails_before_its_first_call_ends_with_the_next_step(
    task: int, reason: str
) -> None:
    env = ours(program=fail_at_once)
    env.reset(options={"task": 3})
    first = np.array([True, False, False, False])
    observations, infos = env.reset(options={"task": task, "reset_mask": first})
    assert observations == ("", *["user: 3, question 0?"] * 3)
    assert reason in infos["error"][0]
    _, rewards, terminations, truncations, infos = env.step(("x",) * COUNT)
    assert list(rewards) == [0.0, 1.5, 1.5, 1.5]
    assert list(terminations) == [False, True, True, True]
    assert list(truncations) == [True, False, False, False]
    assert reason in infos["error"][0]
    env.close()


def test_an_opponent_answers_for_the_others() -> None:
    class Nodding:
        async def respond(self, call: ChatCall) -> ChatReply:
            return ChatReply(text="Yes.")

    env = GymnasiumVectorEnv(environment(both_at_once), 2, agent="solver", opponent=Nodding())
    env.reset()
    assert env.step(("bad", "good"))[0] == ("user: Talk.", "user: More?")
    env.close()


def test_close_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    env = ours()
    env.reset(seed=1)
    env.close()
    assert set(threading.enumerate()) <= before

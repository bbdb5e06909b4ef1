"""Many episodes on one loop: each as it would be alone, and none harmed by another."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeAlias

import pytest
from agentscope.message import UserMsg
from gymnasium.error import InvalidAction, ResetNeeded

from astuner_gym.chat.messages import ChatCall, ChatReply, Responder
from astuner_gym.env import Step, WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.errors import JudgeError, SettingError, WorkflowError
from astuner_gym.judge import FunctionJudge, Judge, Score
from astuner_gym.task import RecordTasks, Task
from astuner_gym.vector import VectorWorkflowEnv
from astuner_gym.workflow import Models, WorkflowResult

Program = Callable[[Task, Models], Awaitable[WorkflowResult]]
Seen: TypeAlias = list[tuple[object, ...]]
NOTHING: Step = ({}, {}, {}, {}, {})


class Scripted:
    """A workflow from a function."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        return await self._program(task, models)


async def say(models: Models, agent: str, text: str) -> str:
    response = await models[agent]([UserMsg("user", text)])
    return str(response.content[0].text)  # type: ignore[union-attr]


async def debate(task: Task, models: Models) -> WorkflowResult:
    """As many rounds as the task says; the loser of each, by the words' order, loses a point."""
    number = int(task.text("question"))
    said = [f"{number}"] * 2
    for _ in range(1 + number % 3):
        said = list(await asyncio.gather(say(models, "Ann", said[1]), say(models, "Bob", said[0])))
        models.reward("Ann" if said[0] < said[1] else "Bob", -1.0)
    models.leave("Bob")
    return WorkflowResult(output=[await say(models, "Ann", "Last words?"), *said])


def environment(program: Program = debate, *, judge: Judge | None = None) -> Environment:
    return Environment(
        name="test",
        workflow=Scripted(program),
        judge=judge or FunctionJudge(lambda task, result: len(str(result.output)) / 8),
        train_tasks=RecordTasks("t", [{"question": f"{number}"} for number in range(10)]),
    )


def make(
    program: Program = debate,
    *,
    count: int = 3,
    judge: Judge | None = None,
    deadline_s: float = 20.0,
) -> VectorWorkflowEnv:
    return VectorWorkflowEnv(environment(program, judge=judge), count, deadline_s=deadline_s)


def words(seed: int, agent: str, turn: int) -> str:
    return "".join(Random(f"{seed}/{agent}/{turn}").choices("abcdef", k=4))


def played_alone(seed: int) -> Seen:
    with WorkflowEnv(environment()) as env:
        seen: Seen = [env.reset(seed=seed)]
        turn = 0
        while seen[-1][0]:
            turn += 1
            seen.append(env.step({agent: words(seed, agent, turn) for agent in env.agents}))
    return seen


def played_together(env: VectorWorkflowEnv, *, seed: int) -> list[Seen]:
    seen: list[Seen] = [[start] for start in env.reset(seed=seed)]
    turn = 0
    while not all(env.over):
        turn += 1
        before = env.over
        actions = [
            {agent: words(seed + index, agent, turn) for agent in agents}
            for index, agents in enumerate(env.agents)
        ]
        for index, step in enumerate(env.step(actions)):
            if before[index]:
                assert step == NOTHING
            else:
                seen[index].append(step)
    return seen


def test_each_episode_is_the_one_that_it_would_be_alone() -> None:
    with make(count=12) as env:
        assert played_together(env, seed=3) == [played_alone(seed) for seed in range(3, 15)]


class Delaying:
    """Makes each call late, by a time drawn from the thread's own generator."""

    def __init__(self, turns: Responder, random: Random) -> None:
        self._turns = turns
        self._random = random

    async def respond(self, call: ChatCall) -> ChatReply:
        await asyncio.sleep(self._random.uniform(0, 0.01))
        return await self._turns.respond(call)


class DelayingEnv(VectorWorkflowEnv):
    random = Random()

    def responder(self, turns: Responder) -> Responder:
        return Delaying(turns, self.random)


def test_delays_change_nothing() -> None:
    with DelayingEnv(environment(), 6) as env:
        assert played_together(env, seed=3) == [played_alone(seed) for seed in range(3, 9)]


def test_a_seed_gives_the_same_episodes_in_any_process() -> None:
    program = (
        "from tests.gym.test_vector import make, played_together\n"
        "with make(count=4) as env: print(played_together(env, seed=3))"
    )

    def printed(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout

    first = printed("1")
    assert "Last words?" in first
    assert printed("2") == first


def test_256_episodes_share_one_thread() -> None:
    before = set(threading.enumerate())
    with make(count=256) as env:
        starts = env.reset(seed=0)
        assert all(list(observations) == ["Ann", "Bob"] for observations, _ in starts)
        assert len(set(threading.enumerate()) - before) == 1
        env.step([{"Ann": "a", "Bob": "b"}] * 256)
    assert set(threading.enumerate()) <= before


def test_some_episodes_may_be_reset_alone() -> None:
    with make() as env:
        env.reset(options={"task": 0})
        env.step([{"Ann": "a", "Bob": "b"}] * 3)
        starts = env.reset(seed=[None, 7, None], only=[1])
        with WorkflowEnv(environment()) as alone:
            assert starts[1] == alone.reset(seed=7)
        assert [list(observations) for observations, _ in starts] == [
            ["Ann"],
            ["Ann", "Bob"],
            ["Ann"],
        ]
        assert env.step([{"Ann": "x"}, {"Ann": "x", "Bob": "y"}, {"Ann": "x"}])[2][0] == {}
        assert env.over == [True, False, True]


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"only": [3]}, r"indices in 0 … 2, got \[3\]"),
        ({"seed": [1, 2]}, "one for each of 3 episodes, got 2"),
        ({"options": {"task": 10}}, "in 0 … 9"),
    ],
)
def test_a_wrong_reset_changes_nothing(wrong: dict[str, object], rule: str) -> None:
    with make() as env:
        env.reset(seed=0)
        with pytest.raises(SettingError, match=rule):
            env.reset(**wrong)  # type: ignore[arg-type]
        env.step([{"Ann": "a", "Bob": "b"}] * 3)


def test_an_episode_at_least_is_stepped() -> None:
    with pytest.raises(SettingError, match="count must be >= 1"):
        make(count=0)


# An episode on task 1 goes wrong in some way; those on the tasks 0 and 2 must not notice.


async def raise_an_error(task: Task, models: Models) -> WorkflowResult:
    raise ValueError("bad luck")


async def exit_the_program(task: Task, models: Models) -> WorkflowResult:
    sys.exit("no luck")


async def return_no_result(task: Task, models: Models) -> WorkflowResult:
    return "42"  # type: ignore[return-value]


async def wait_on_an_event(task: Task, models: Models) -> WorkflowResult:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets the event")


async def wait_on_each_other(task: Task, models: Models) -> WorkflowResult:
    queues: list[asyncio.Queue[str]] = [asyncio.Queue(), asyncio.Queue()]

    async def pass_on(source: asyncio.Queue[str], target: asyncio.Queue[str]) -> None:
        target.put_nowait(await source.get())

    await asyncio.gather(pass_on(*queues), pass_on(*reversed(queues)))
    raise AssertionError("neither has anything to pass on")


async def call_after_leaving(task: Task, models: Models) -> WorkflowResult:
    models.leave("Ann")
    await say(models, "Ann", "Still here?")
    raise AssertionError("who left cannot answer")


async def wait_for_ever(task: Task, models: Models) -> WorkflowResult:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nobody sets the future")


def going_wrong(fault: Program, *, at_once: bool) -> Program:
    async def play(task: Task, models: Models) -> WorkflowResult:
        if at_once and task.id == "t-1":
            return await fault(task, models)
        said = await say(models, "Ann", "First?")
        if task.id == "t-1":
            return await fault(task, models)
        return WorkflowResult(output=said + await say(models, "Ann", "Second?"))

    return play


def started(env: VectorWorkflowEnv) -> None:
    """Start each episode on the task of its index."""
    by_task = {Random(seed).randrange(10): seed for seed in range(200)}
    env.reset(seed=[by_task[index] for index in range(len(env))])


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("fault", "deadline_s", "reason"),
    [
        (raise_an_error, 20.0, r"workflow raised on task t-1: ValueError\('bad luck'\)"),
        (exit_the_program, 20.0, r"must return a result and not exit, got SystemExit\('no luck'\)"),
        (return_no_result, 20.0, "must return a WorkflowResult, got '42'"),
        (wait_on_an_event, 20.0, r"t-1 waits for what nothing will bring.*test_vector\.py"),
        (wait_on_each_other, 20.0, "t-1 waits for what nothing will bring"),
        (call_after_leaving, 20.0, "an agent that has left makes no further call"),
        (wait_for_ever, 0.2, r"t-1 did neither within deadline_s.*test_vector\.py"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_failing_episode_harms_no_other(
    fault: Program, deadline_s: float, reason: str, at_once: bool
) -> None:
    with make(going_wrong(fault, at_once=at_once), deadline_s=deadline_s) as env:
        started(env)
        if not at_once:
            assert env.agents == [["Ann"]] * 3
            steps = env.step([{"Ann": "1"}] * 3)
            left = fault is call_after_leaving
            assert steps[1][1:4] == ({"Ann": 0.0}, {"Ann": left}, {"Ann": not left})
            assert "error" in steps[1][4]["Ann"]
            assert "success" not in steps[1][4]["Ann"]
            assert [list(step[0]) for step in steps] == [["Ann"], [], ["Ann"]]
            assert env.over == [False, True, False]
            (error,) = filter(None, env.errors)
        else:
            assert env.agents == [["Ann"], [], ["Ann"]]
            steps = env.step([{"Ann": "1"}, {}, {"Ann": "1"}])
            assert steps[1][0] == {}
            (error,) = filter(None, env.errors)
        with pytest.raises(WorkflowError, match=f"(?s){reason}"):
            raise error
        steps = env.step([{"Ann": "2"}, {}, {"Ann": "2"}])
        assert steps == [
            ({}, {"Ann": 0.25}, {"Ann": True}, {"Ann": False}, steps[0][4]),
            NOTHING,
            ({}, {"Ann": 0.25}, {"Ann": True}, {"Ann": False}, steps[2][4]),
        ]
        started(env)
        assert env.errors[0] is env.errors[2] is None


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (lambda: 1 / 0, "judge raised on task t-1: ZeroDivisionError"),
        (lambda: "good", "must return a finite number or a Score, got 'good'"),
        (lambda: Score(rewards={}, success=True), "each agent needs a finite reward"),
    ],
)
def test_a_failing_judge_harms_no_other_episode(verdict: Callable[[], Score], reason: str) -> None:
    judge = FunctionJudge(lambda task, result: verdict() if task.id == "t-1" else 1.0)

    async def one_call(task: Task, models: Models) -> WorkflowResult:
        return WorkflowResult(output=await say(models, "Ann", "Well?"))

    with make(one_call, judge=judge) as env:
        started(env)
        steps = env.step([{"Ann": "1"}] * 3)
        assert [step[1] for step in steps] == [{"Ann": 1.0}, {"Ann": 0.0}, {"Ann": 1.0}]
        assert [step[3] for step in steps] == [{"Ann": False}, {"Ann": True}, {"Ann": False}]
        (error,) = filter(None, env.errors)
        with pytest.raises(JudgeError, match=reason):
            raise error


def test_episodes_that_share_a_lock_of_their_own_do_not_count_as_stuck() -> None:
    async def take_turns(task: Task, models: Models) -> WorkflowResult:
        floor = asyncio.Lock()

        async def speak(agent: str) -> str:
            async with floor:
                return await say(models, agent, "Go.")

        return WorkflowResult(output=await asyncio.gather(speak("Ann"), speak("Bob")))

    with make(take_turns, judge=FunctionJudge(lambda task, result: 1.0)) as env:
        env.reset(seed=0)
        assert env.agents == [["Ann"]] * 3
        env.step([{"Ann": "a"}] * 3)
        assert env.agents == [["Bob"]] * 3
        assert env.step([{"Bob": "b"}] * 3)[0][1] == {"Ann": 1.0, "Bob": 1.0}


def test_a_judge_that_takes_a_while_is_waited_for() -> None:
    async def considered(task: Task, result: WorkflowResult) -> float:
        await asyncio.to_thread(time.sleep, 0.02)
        await asyncio.sleep(0.02)
        return 1.0

    async def length_of_task(task: Task, models: Models) -> WorkflowResult:
        for _ in range(1 if task.id == "t-1" else 2):
            await say(models, "Ann", "Well?")
        return WorkflowResult(output=None)

    with make(length_of_task, judge=FunctionJudge(considered)) as env:
        started(env)
        steps = env.step([{"Ann": "1"}] * 3)
        assert steps[1][1:3] == ({"Ann": 1.0}, {"Ann": True})
        assert env.over == [False, True, False]


def test_a_blocked_loop_is_shown_with_its_stack_and_takes_all_episodes_with_it() -> None:
    released = threading.Event()

    async def block(task: Task, models: Models) -> WorkflowResult:
        await say(models, "Ann", "Well?")
        if task.id == "t-1":
            released.wait()
        return WorkflowResult(output="")

    env = make(block, deadline_s=0.2)
    started(env)
    with pytest.raises(WorkflowError, match=r"(?s)leave its event loop free.*released\.wait\(\)"):
        env.step([{"Ann": "1"}] * 3)
    with pytest.raises(ResetNeeded):
        env.step([{"Ann": "1"}] * 3)
    started(env)
    assert env.agents == [["Ann"]] * 3
    env.close()
    released.set()


def stubbornly_going_wrong(ended: threading.Event, *, hanging: bool) -> Program:
    """Make a workflow that leaves a task which ends when the event is set, and no sooner."""

    never = asyncio.Event()

    async def live_on() -> None:
        while not ended.is_set():
            try:
                await (asyncio.sleep(60) if hanging else never.wait())
            except asyncio.CancelledError:
                continue

    async def play(task: Task, models: Models) -> WorkflowResult:
        said = await say(models, "Ann", "First?")
        if task.id == "t-1":
            asyncio.create_task(live_on())  # noqa: RUF006 - left over on purpose
        return WorkflowResult(output=said + await say(models, "Ann", "Second?"))

    return play


@pytest.mark.parametrize("hanging", [True, False])
def test_a_task_that_will_not_end_fails_its_episode_alone(
    hanging: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hanging:  # that it hurries where the step is interrupted is what the other case shows
        monkeypatch.setattr("astuner_gym.stepped_episode._CANCEL_AGAIN_S", 0.01)
    ended = threading.Event()
    with make(stubbornly_going_wrong(ended, hanging=hanging), deadline_s=0.5) as env:
        started(env)
        env.step([{"Ann": "1"}] * 3)
        steps = env.step([dict.fromkeys(agents, "2") for agents in env.agents])
        assert [steps[0][2], steps[2][2]] == [{"Ann": True}] * 2
        with pytest.raises(WorkflowError, match="must end when they are cancelled 10 times"):
            raise env.errors[1] or AssertionError("the episode must have failed")
        ended.set()


@pytest.mark.parametrize(
    ("actions", "error", "rule"),
    [
        ([{"Ann": "a", "Bob": "b"}] * 2, InvalidAction, "each of the 3 episodes needs .* got 2"),
        ([{"Ann": "a", "Bob": "b"}] * 2 + [{}], InvalidAction, "episode 2: each agent who must"),
        (
            [{"Ann": "a", "Bob": "b"}] * 2 + [{"Ann": "a", "Bob": 7}],
            InvalidAction,
            "episode 2: an action must be text or a ChatReply, got int for 'Bob'",
        ),
    ],
)
def test_a_wrong_action_changes_no_episode(
    actions: list[dict[str, str]], error: type[Exception], rule: str
) -> None:
    with make() as env:
        starts = env.reset(seed=0)
        with pytest.raises(error, match=rule):
            env.step(actions)
        assert [dict.fromkeys(agents) for agents in env.agents] == [
            dict.fromkeys(observations) for observations, _ in starts
        ]
        env.step([{"Ann": "a", "Bob": "b"}] * 3)


def test_steps_need_episodes_and_ended_ones_take_no_actions() -> None:
    async def one_call(task: Task, models: Models) -> WorkflowResult:
        return WorkflowResult(output=await say(models, "Ann", "Well?"))

    with make(one_call, count=1) as env:
        with pytest.raises(ResetNeeded, match="there is none; call reset"):
            env.step([{}])
        env.reset()
        env.step([{"Ann": ""}])
        with pytest.raises(ResetNeeded, match="episode 0: it is not under way"):
            env.step([{"Ann": ""}])
        assert env.step([{}]) == [NOTHING]


def test_a_running_event_loop_may_step_either_way() -> None:
    async def play() -> None:
        with make() as env:
            assert env.reset(seed=4) == await env.areset(seed=4)
            actions = [{"Ann": "a", "Bob": "b"}] * 3
            stepped = await env.astep(actions)
            env.reset(seed=4)
            assert env.step(actions) == stepped

    asyncio.run(play())


def test_a_cancelled_step_abandons_all_episodes_and_close_leaves_nothing() -> None:
    async def slow(task: Task, models: Models) -> WorkflowResult:
        await say(models, "Ann", "Well?")
        await asyncio.sleep(60)
        return WorkflowResult(output="")

    async def play(env: VectorWorkflowEnv) -> None:
        await env.areset(seed=0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(env.astep([{"Ann": ""}] * 3), timeout=0.05)
        with pytest.raises(ResetNeeded):
            env.step([{}] * 3)
        await env.areset(seed=0, only=[1])
        assert env.agents == [[], ["Ann"], []]

    before = set(threading.enumerate())
    env = make(slow)
    asyncio.run(play(env))
    env.close()
    assert set(threading.enumerate()) <= before

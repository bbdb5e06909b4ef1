"""An episode's outcome, and how failures on either side of it are named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from agentscope.agent import Agent
from agentscope.message import UserMsg

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.episode import EpisodeOutcome, judge_result, run_episode
from astuner_gym.errors import EpisodeClosedError, JudgeError, TaskDataError, WorkflowError
from astuner_gym.judge import FunctionJudge, Judge, Score
from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult

TASK = Task(id="t-0", record={})
Program = Callable[[Task, Models], Awaitable[WorkflowResult]]


class Scripted:
    """A workflow from a function."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        return await self._program(task, models)


class Hello:
    async def respond(self, call: ChatCall) -> ChatReply:
        return ChatReply(text=f"hello {call.index}")


class Broken:
    failure = ConnectionError("no server")

    async def respond(self, call: ChatCall) -> ChatReply:
        raise self.failure


class Silent:
    async def respond(self, call: ChatCall) -> ChatReply:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")


async def greet(task: Task, models: Models) -> WorkflowResult:
    message = await Agent("Ann", "", models["Ann"]).reply(UserMsg("user", "Hi."))
    return WorkflowResult(output=message.get_text_content())


def episode(program: Program, *, judge: Judge | None = None) -> EpisodeOutcome:
    judge = judge or FunctionJudge(lambda task, result: 1.0)
    return asyncio.run(run_episode(Scripted(program), judge, TASK, Hello()))


def test_an_episode_is_run_and_judged() -> None:
    judge = FunctionJudge(lambda task, result: result.output == "hello 0")
    outcome = episode(greet, judge=judge)
    assert outcome == EpisodeOutcome(
        WorkflowResult(output="hello 0"), Score(rewards={"*": 1.0}, success=True)
    )


def test_what_a_workflow_raises_is_its_cause() -> None:
    failure = KeyError("answer")

    async def fail(task: Task, models: Models) -> WorkflowResult:
        raise failure

    with pytest.raises(WorkflowError, match=r"workflow raised on task t-0: KeyError") as raised:
        episode(fail)
    assert raised.value.__cause__ is failure


def test_a_workflow_that_is_no_coroutine_function_is_named() -> None:
    class Plain:
        def run(self, task: Task, models: Models) -> WorkflowResult:
            raise KeyError("answer")

    judge = FunctionJudge(lambda task, result: 1.0)
    with pytest.raises(WorkflowError, match="workflow raised on task t-0: KeyError"):
        asyncio.run(run_episode(Plain(), judge, TASK, Hello()))  # type: ignore[arg-type]


def test_bad_task_data_is_reported_as_such() -> None:
    async def read(task: Task, models: Models) -> WorkflowResult:
        return WorkflowResult(output=task.text("question"))

    with pytest.raises(TaskDataError, match="'question' must be text"):
        episode(read)


def test_a_workflow_must_return_a_result() -> None:
    async def forget(task: Task, models: Models) -> WorkflowResult:
        return "42"  # type: ignore[return-value]

    with pytest.raises(WorkflowError, match="must return a WorkflowResult, got '42'"):
        episode(forget)


def test_what_a_judge_raises_is_its_cause() -> None:
    class Failing:
        async def score(self, task: Task, result: WorkflowResult) -> Score:
            raise ZeroDivisionError("no points")

    with pytest.raises(JudgeError, match="judge raised on task t-0") as raised:
        episode(greet, judge=Failing())
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_judge_that_lets_a_cancellation_of_its_own_out_is_named() -> None:
    class Cancelling:
        async def score(self, task: Task, result: WorkflowResult) -> Score:
            helper = asyncio.create_task(asyncio.sleep(60))
            helper.cancel()
            await helper
            raise AssertionError("the await raises")

    with pytest.raises(JudgeError, match=r"judge raised on task t-0: CancelledError\(\)"):
        episode(greet, judge=Cancelling())


def test_a_cancelled_judge_is_cancelled() -> None:
    class Waiting:
        async def score(self, task: Task, result: WorkflowResult) -> Score:
            await asyncio.sleep(60)
            raise AssertionError("nobody waits so long")

    async def play() -> None:
        async with asyncio.timeout(0.01):
            await judge_result(Waiting(), TASK, WorkflowResult(output=""))

    with pytest.raises(TimeoutError):
        asyncio.run(play())


def test_a_judge_must_return_a_score() -> None:
    class Counting:
        async def score(self, task: Task, result: WorkflowResult) -> Score:
            return 3  # type: ignore[return-value]

    with pytest.raises(JudgeError, match="must return a Score, got 3"):
        episode(greet, judge=Counting())


def test_a_responders_error_comes_out_unchanged_even_if_the_workflow_hides_it() -> None:
    async def hide(task: Task, models: Models) -> WorkflowResult:
        try:
            return await greet(task, models)
        except ConnectionError:
            return WorkflowResult(output="all is well")

    judge = FunctionJudge(lambda task, result: 1.0)
    with pytest.raises(ConnectionError) as raised:
        asyncio.run(run_episode(Scripted(hide), judge, TASK, Broken()))
    assert raised.value is Broken.failure


def test_a_cancelled_episode_is_cancelled_though_agentscope_apologises() -> None:
    after: list[str] = []

    async def persist(task: Task, models: Models) -> WorkflowResult:
        ann = Agent("Ann", "", models["Ann"])
        after.append((await ann.reply(UserMsg("user", "Hi."))).finished_reason or "")
        try:
            await ann.reply(UserMsg("user", "Again."))
        except EpisodeClosedError:
            after.append("closed")
        return WorkflowResult(output="as if nothing had happened")

    async def play() -> None:
        judge = FunctionJudge(lambda task, result: 1.0)
        running = asyncio.create_task(run_episode(Scripted(persist), judge, TASK, Silent()))
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(play())
    assert after == ["interrupted", "closed"]


def test_a_task_that_outlives_its_workflow_loses_its_model() -> None:
    strays: list[asyncio.Task[object]] = []

    async def leave(task: Task, models: Models) -> WorkflowResult:
        async def late() -> None:
            await asyncio.sleep(0.01)
            await models["Bob"]([UserMsg("user", "Hi.")])

        strays.append(asyncio.create_task(late()))
        return WorkflowResult(output=None)

    async def play() -> None:
        judge = FunctionJudge(lambda task, result: 1.0)
        await run_episode(Scripted(leave), judge, TASK, Hello())
        with pytest.raises(EpisodeClosedError):
            await strays[0]

    asyncio.run(play())

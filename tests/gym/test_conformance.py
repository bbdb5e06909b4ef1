"""The conformance tests pass where they should, and each fails on what it is there to find."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable

import pytest
from agentscope.agent import Agent, InjectionConfig
from agentscope.message import UserMsg

from astuner_gym.environment import Environment
from astuner_gym.judge import FunctionJudge, Judge, Score
from astuner_gym.task import RecordTasks, Task
from astuner_gym.testing import EnvironmentConformance
from astuner_gym.workflow import Models, WorkflowResult

Program = Callable[[Task, Models], Awaitable[WorkflowResult]]


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
    """Two agents who answer each other for two rounds."""
    ann = bob = task.text("topic")
    for _ in range(2):
        ann, bob = await asyncio.gather(say(models, "Ann", bob), say(models, "Bob", ann))
    return WorkflowResult(output=[ann, bob])


def environment(program: Program, *, judge: Judge | None = None) -> Environment:
    return Environment(
        name="test",
        workflow=Scripted(program),
        judge=judge or FunctionJudge(lambda task, result: len(str(result.output)) / 100),
        train_tasks=RecordTasks("t", [{"topic": f"topic {i}"} for i in range(5)]),
    )


class TestDebate(EnvironmentConformance):
    def make_environment(self) -> Environment:
        return environment(debate)


def conformance(environment: Environment) -> EnvironmentConformance:
    class Of(EnvironmentConformance):
        def make_environment(self) -> Environment:
            return environment

    return Of()


def test_state_kept_between_episodes_is_found() -> None:
    counter = itertools.count()

    async def remember(task: Task, models: Models) -> WorkflowResult:
        return WorkflowResult(output=await say(models, "Ann", f"episode {next(counter)}"))

    with pytest.raises(AssertionError, match="one seed gave two different episodes"):
        conformance(environment(remember)).test_a_seed_gives_one_episode()
    with pytest.raises(AssertionError, match="changed how the next one"):
        conformance(environment(remember)).test_a_reset_forgets_the_episode_before()


def test_a_dependence_on_delays_is_found() -> None:
    async def impatient(task: Task, models: Models) -> WorkflowResult:
        asking = [asyncio.create_task(say(models, f"agent {n}", "Quick!")) for n in range(8)]
        await asyncio.wait(asking, timeout=0.01)
        in_time = sum(asked.done() for asked in asking)
        await asyncio.gather(*asking)
        return WorkflowResult(output=await say(models, "chair", f"{in_time} were in time."))

    with pytest.raises(AssertionError, match="a delay before calls changed the episode"):
        conformance(environment(impatient)).test_delays_change_no_observation()


def test_a_thread_left_behind_is_found() -> None:
    stop = threading.Event()

    async def spawn(task: Task, models: Models) -> WorkflowResult:
        threading.Thread(target=stop.wait, daemon=True).start()
        return WorkflowResult(output=await say(models, "Ann", "Hi."))

    with pytest.raises(AssertionError, match="threads outlive the environment"):
        conformance(environment(spawn)).test_close_leaves_no_thread()
    stop.set()


def test_a_clock_in_the_prompt_is_found() -> None:
    def talk(injection: InjectionConfig) -> Program:
        async def run(task: Task, models: Models) -> WorkflowResult:
            ann = Agent("Ann", "", models["Ann"], injection_config=injection)
            reply = await ann.reply(UserMsg("user", "Hi."))
            return WorkflowResult(output=reply.get_text_content())

        return run

    with pytest.raises(AssertionError, match="the prompt of 'Ann' holds the time"):
        conformance(environment(talk(InjectionConfig()))).test_no_clock_enters_a_prompt()
    without = talk(InjectionConfig(inject_runtime_state=False))
    conformance(environment(without)).test_no_clock_enters_a_prompt()


def test_a_reward_for_an_agent_that_never_acted_does_no_harm() -> None:
    class Generous:
        async def score(self, task: Task, result: WorkflowResult) -> Score:
            return Score(rewards={"Ann": 1.0, "Bob": 0.0, "Cat": 1.0}, success=True)

    conformance(environment(debate, judge=Generous())).test_each_agent_gets_a_finite_reward()

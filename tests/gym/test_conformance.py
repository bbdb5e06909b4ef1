"""The conformance tests pass where they should, and each fails on what it is there to find."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from unittest import SkipTest

import pytest
from agentscope.agent import Agent, InjectionConfig
from agentscope.message import UserMsg

from astuner_gym.environment import Environment
from astuner_gym.errors import JudgeError, WorkflowError
from astuner_gym.judge import FunctionJudge, Judge, Score
from astuner_gym.task import RecordTasks, Task
from astuner_gym.testing import EnvironmentConformance
from astuner_gym.testing.table import suite_checks
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


def environment(
    program: Program, *, judge: Judge | None = None, agents: tuple[str, ...] = ()
) -> Environment:
    return Environment(
        name="test",
        agents=agents,
        workflow=Scripted(program),
        judge=judge or FunctionJudge(lambda task, result: len(str(result.output)) / 100),
        train_tasks=RecordTasks("t", [{"topic": f"topic {i}"} for i in range(5)]),
    )


class TestDebate(EnvironmentConformance):
    def make_environment(self) -> Environment:
        return environment(debate, agents=("Ann", "Bob"))


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
        await asyncio.wait(asking, timeout=0.5)
        in_time = sum(asked.done() for asked in asking)
        await asyncio.gather(*asking)
        return WorkflowResult(output=await say(models, "chair", f"{in_time} were in time."))

    suite = conformance(environment(impatient))
    # Far more than a busy machine takes to answer, and far less than the latest call.
    suite.longest_delay_s = 2.0
    with pytest.raises(AssertionError, match="a delay before calls changed the episode"):
        suite.test_delays_change_no_observation()


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


async def name_in_order_of_hashes(task: Task, models: Models) -> WorkflowResult:
    return WorkflowResult(output=await say(models, "Ann", " ".join({*"abcdefghijkl"})))


class HashOrder(EnvironmentConformance):
    def make_environment(self) -> Environment:
        return environment(name_in_order_of_hashes)


def test_an_order_of_hashes_is_found() -> None:
    HashOrder().test_a_seed_gives_one_episode()
    with pytest.raises(AssertionError, match="sort what comes from sets"):
        HashOrder().test_a_seed_gives_one_episode_in_any_process()


class FailsElsewhere(EnvironmentConformance):
    def make_environment(self) -> Environment:
        return environment(debate)

    def __setstate__(self, state: object) -> None:
        raise OSError("no such thing here")

    def __getstate__(self) -> object:
        return 1


def test_what_another_process_says_of_its_failure_is_shown() -> None:
    with pytest.raises(RuntimeError, match="no such thing here"):
        FailsElsewhere().test_a_seed_gives_one_episode_in_any_process()


def test_state_shared_by_members_of_a_group_is_found() -> None:
    under_way = itertools.count()

    async def look_around(task: Task, models: Models) -> WorkflowResult:
        return WorkflowResult(output=await say(models, "Ann", f"{next(under_way)} others"))

    with pytest.raises(AssertionError, match="two members of a group started differently"):
        conformance(environment(look_around)).test_a_group_starts_alike()


def test_an_actor_without_a_reward_is_found() -> None:
    class Forgetful:
        async def score(self, task: Task, result: WorkflowResult) -> Score:
            return Score(rewards={"Ann": 1.0}, success=True)

    with pytest.raises(JudgeError, match="each agent needs a finite reward"):
        conformance(environment(debate, judge=Forgetful())).test_each_agent_gets_a_finite_reward()


def test_rewards_that_are_not_the_judges_are_found() -> None:
    verdicts = itertools.count()
    fickle = FunctionJudge(lambda task, result: float(next(verdicts)))
    with pytest.raises(AssertionError, match=r"the steps gave 'Ann' 0.0 in all, and the judge"):
        conformance(environment(debate, judge=fickle)).test_rewards_are_those_of_the_judge()


def test_rewards_that_fall_on_the_way_add_up_to_the_judges() -> None:
    async def paid(task: Task, models: Models) -> WorkflowResult:
        ann = await say(models, "Ann", "One?")
        models.reward("Ann", 0.1)
        models.leave("Ann")
        return WorkflowResult(output=[ann, await say(models, "Bob", "Two?")])

    suite = conformance(environment(paid))
    suite.test_rewards_are_those_of_the_judge()
    suite.test_each_agent_gets_a_finite_reward()


def test_an_agent_that_is_not_named_is_found() -> None:
    suite = conformance(environment(debate, agents=("Ann",)))
    with pytest.raises(AssertionError, match=r"does not name: \['Bob'\]"):
        suite.test_agents_are_those_named()
    with pytest.raises(SkipTest, match="agents are not known beforehand"):
        conformance(environment(debate)).test_agents_are_those_named()


@pytest.mark.parametrize(
    ("test", "refuses"),
    [
        ("text of any script", lambda text: not text.isascii()),
        ("an empty reply", lambda text: not text),
        ("a long reply", lambda text: len(text) > 10_000),
    ],
)
def test_a_workflow_that_refuses_a_reply_is_found(
    test: str, refuses: Callable[[str], bool]
) -> None:
    async def choosy(task: Task, models: Models) -> WorkflowResult:
        for _ in range(3):
            if refuses(await say(models, "Ann", "Speak.")):
                raise ValueError("I do not like that")
        return WorkflowResult(output="")

    checks = {name: check for name, check in suite_checks().items() if name.endswith("is a reply")}
    for name, check in checks.items():
        if name.startswith(test):
            with pytest.raises(WorkflowError, match="I do not like that"):
                check(conformance(environment(choosy)))
    assert sum(name.startswith(test) for name in checks) == 1


def test_an_episode_that_is_longer_than_played_shows_nothing_of_its_end() -> None:
    suite = conformance(environment(debate))
    suite.max_steps = 1
    for test in (
        suite.test_each_agent_gets_a_finite_reward,
        suite.test_rewards_are_those_of_the_judge,
    ):
        with pytest.raises(SkipTest, match="no episode ended within max_steps=1"):
            test()

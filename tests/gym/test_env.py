"""The stepped environment over small workflows, some of them with real AgentScope agents."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from agentscope.agent import Agent, InjectionConfig
from agentscope.message import Msg, TextBlock, UserMsg
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit
from gymnasium.error import InvalidAction, ResetNeeded

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, ToolCall
from astuner_gym.chat.parsers import ReplyParser
from astuner_gym.env import Action, WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.errors import JudgeError, SettingError, WorkflowError
from astuner_gym.judge import FunctionJudge, Judge, Score
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult

NO_CLOCK = InjectionConfig(inject_runtime_state=False)
Program = Callable[[Task, Models], Awaitable[WorkflowResult]]


class Scripted:
    """A workflow from a function."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        return await self._program(task, models)


def make(
    program: Program,
    *,
    judge: Judge | None = None,
    controlled: Sequence[str] | None = None,
    opponent: Counting | None = None,
    parser: ReplyParser | None = None,
    deadline_s: float = 20.0,
) -> WorkflowEnv:
    tasks = RecordTasks("t", [{"question": f"question {i}"} for i in range(10)])
    environment = Environment(
        name="test",
        workflow=Scripted(program),
        judge=judge or FunctionJudge(lambda task, result: 1.0),
        train_tasks=tasks,
    )
    return WorkflowEnv(
        environment,
        controlled=controlled,
        opponent=opponent,
        parser=parser,
        deadline_s=deadline_s,
    )


async def say(models: Models, agent: str, text: str) -> str:
    response = await models[agent]([UserMsg("user", text)])
    return str(response.content[0].text)  # type: ignore[union-attr]


async def answer(task: Task, models: Models) -> WorkflowResult:
    return WorkflowResult(output=await say(models, "solver", task.text("question")))


async def two_questions(task: Task, models: Models) -> WorkflowResult:
    for number in range(2):
        await say(models, "solver", f"{number}")
    return WorkflowResult(output=None, truncated=True, metrics={"turns": 2.0})


def asked(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role=ChatRole.USER, text=text),)


def test_an_episode_is_reset_stepped_and_scored() -> None:
    judge = FunctionJudge(lambda task, result: result.output == "42")
    with make(answer, judge=judge) as env:
        observations, infos = env.reset(options={"task": 3})
        assert observations == {"solver": asked("question 3")}
        assert infos["solver"]["call"].index == 0
        assert env.agents == ["solver"]
        step = env.step({"solver": "42"})
        assert step == (
            {},
            {"solver": 1.0},
            {"solver": True},
            {"solver": False},
            {"solver": {"task": "t-3", "success": True, "metrics": {}}},
        )
        assert env.agents == []


def test_a_truncated_episode_is_not_terminated() -> None:
    with make(two_questions) as env:
        env.reset()
        observations, rewards, terminations, truncations, infos = env.step({"solver": ""})
        assert (observations, rewards) == ({"solver": asked("1")}, {"solver": 0.0})
        assert (terminations, truncations) == ({"solver": False}, {"solver": False})
        _, _, terminations, truncations, infos = env.step({"solver": ""})
        assert (terminations, truncations) == ({"solver": False}, {"solver": True})
        assert infos["solver"]["metrics"] == {"workflow/turns": 2.0}


def test_a_seed_draws_the_task_and_those_of_later_resets() -> None:
    def drawn() -> list[str]:
        with make(answer) as env:
            starts = [env.reset(seed=5), env.reset(), env.reset(), env.reset()]
        return [infos["solver"]["task"] for _, infos in starts]

    assert drawn() == drawn()
    assert len(set(drawn())) > 1


def test_the_late_agent_of_two_is_waited_for() -> None:
    async def debate(task: Task, models: Models) -> WorkflowResult:
        async def late() -> str:
            await asyncio.sleep(0.02)
            return await say(models, "Ann", "late")

        said = await asyncio.gather(say(models, "Bob", "prompt"), late())
        return WorkflowResult(output=said)

    judge = FunctionJudge(lambda task, result: result.output == ["b", "a"])
    with make(debate, judge=judge) as env:
        observations, _ = env.reset()
        assert list(observations) == ["Ann", "Bob"]
        assert env.step({"Bob": "b", "Ann": "a"})[1] == {"Ann": 1.0, "Bob": 1.0}


def test_calls_of_one_agent_are_put_to_it_in_their_order() -> None:
    async def twice_at_once(task: Task, models: Models) -> WorkflowResult:
        both = [say(models, "solver", f"{number}") for number in range(2)]
        return WorkflowResult(output=await asyncio.gather(*both))

    judge = FunctionJudge(lambda task, result: result.output == ["first", "second"])
    with make(twice_at_once, judge=judge) as env:
        assert env.reset()[0] == {"solver": asked("0")}
        assert env.step({"solver": "first"})[0] == {"solver": asked("1")}
        assert env.step({"solver": "second"})[1] == {"solver": 1.0}


def react_agent(models: Models, name: str, tool: Callable[[], Awaitable[ToolChunk]]) -> Agent:
    allow = PermissionDecision(behavior=PermissionBehavior.ALLOW, message="the test's own tool")
    return Agent(
        name,
        "",
        models[name],
        toolkit=Toolkit(tools=[FunctionTool(tool, permission=allow)]),
        injection_config=NO_CLOCK,
    )


async def consult(task: Task, models: Models) -> WorkflowResult:
    """Let the leader ask an expert, who is an agent in a subtask of the leader's tool call."""

    async def ask_expert() -> ToolChunk:
        """Ask the expert."""
        expert = Agent("expert", "", models["expert"], injection_config=NO_CLOCK)
        reply: Msg = await asyncio.create_task(expert.reply(UserMsg("leader", "Well?")))
        return ToolChunk(content=[TextBlock(text=reply.get_text_content() or "")])

    async def look_up() -> ToolChunk:
        """Look it up, which takes a while and blocks."""
        await asyncio.to_thread(time.sleep, 0.02)
        return ToolChunk(content=[TextBlock(text="looked up")])

    leader = react_agent(models, "leader", ask_expert)
    clerk = react_agent(models, "clerk", look_up)
    said = await asyncio.gather(
        leader.reply(UserMsg("user", "Lead.")), clerk.reply(UserMsg("user", "Help."))
    )
    return WorkflowResult(output=[message.get_text_content() for message in said])


def test_agents_with_tools_threads_and_agents_of_their_own_are_stepped_together() -> None:
    judge = FunctionJudge(lambda task, result: result.output == ["So be it.", "Found."])
    with make(consult, judge=judge) as env:
        assert list(env.reset()[0]) == ["clerk", "leader"]
        use: dict[str, Action] = {
            "clerk": ChatReply(text="", tool_calls=(ToolCall("look_up", "{}"),)),
            "leader": '<tool_call>\n{"name": "ask_expert", "arguments": {}}\n</tool_call>',
        }
        observations = env.step(use)[0]
        assert list(observations) == ["clerk", "expert"]
        assert observations["clerk"][-1].text == "looked up"
        assert observations["expert"][-1].text == "leader: Well?"
        observations = env.step({"clerk": "Found.", "expert": "Yes."})[0]
        assert {agent: seen[-1].text for agent, seen in observations.items()} == {"leader": "Yes."}
        assert env.step({"leader": "So be it."})[1] == {"clerk": 1.0, "expert": 1.0, "leader": 1.0}


class Counting:
    """Answers with the call's number."""

    async def respond(self, call: ChatCall) -> ChatReply:
        return ChatReply(text=f"{call.agent} {call.index}")


async def take_turns(task: Task, models: Models) -> WorkflowResult:
    said = [await say(models, agent, "Go.") for agent in ("Ann", "Bob", "Ann", "Bob")]
    return WorkflowResult(output=said)


def test_an_opponent_answers_for_agents_that_are_not_stepped() -> None:
    judge = FunctionJudge(lambda task, result: result.output == ["x", "Bob 0", "x", "Bob 1"])
    with make(take_turns, judge=judge, controlled=("Ann",), opponent=Counting()) as env:
        env.reset()
        assert list(env.step({"Ann": "x"})[0]) == ["Ann"]
        assert env.step({"Ann": "x"})[1] == {"Ann": 1.0}


def test_an_opponent_needs_agents_to_oppose() -> None:
    with pytest.raises(SettingError, match="controlled and opponent go together"):
        make(answer, controlled=("Ann",))


def test_one_controlled_agent_is_a_collection_of_one() -> None:
    with pytest.raises(SettingError, match=r"got the text 'Ann'; write \['Ann'\]"):
        make(answer, controlled="Ann", opponent=Counting())


@pytest.mark.parametrize("deadline_s", [0.0, math.inf, math.nan])
def test_a_deadline_is_one_that_a_thread_can_wait_for(deadline_s: float) -> None:
    with pytest.raises(SettingError, match="deadline_s must be > 0 and at most"):
        make(answer, deadline_s=deadline_s)


LONE_SURROGATE = "\ud800"


def tool_call(*, name: str = "add", arguments: str = "{}") -> ChatReply:
    return ChatReply(text="", tool_calls=(ToolCall(name, arguments),))


@pytest.mark.parametrize(
    ("actions", "rule"),
    [
        ({}, r"the agents are \['solver'\], got actions of \[\]"),
        ({"critic": "x"}, r"the agents are \['solver'\], got actions of \['critic'\]"),
        ({"solver": "x", "critic": "x"}, r"got actions of \['critic', 'solver'\]"),
        ({"solver": "x", 3: "x"}, r"got actions of \['solver', 3\]"),
        ("solver", "must be a mapping from agent to action, got str"),
        (None, "must be a mapping from agent to action, got NoneType"),
        ({"solver": None}, "must be text or a ChatReply, got NoneType for 'solver'"),
        ({"solver": b"x"}, "must be text or a ChatReply, got bytes for 'solver'"),
        ({"solver": ["x"]}, "must be text or a ChatReply, got list for 'solver'"),
        ({"solver": ChatReply(text=3)}, "text must be str, got int for 'solver'"),  # type: ignore[arg-type]
        ({"solver": "x" * 1_000_001}, "may have 1000000 characters, got 1000001 for 'solver'"),
        ({"solver": ChatReply(text="", thinking="x" * 1_000_001)}, "got 1000001 for 'solver'"),
        ({"solver": tool_call(arguments="x" * 1_000_001)}, "got 1000001 for 'solver'"),
        ({"solver": LONE_SURROGATE}, "'solver' holds a lone surrogate"),
        ({"solver": tool_call(name=LONE_SURROGATE)}, "'solver' holds a lone surrogate"),
        (
            {"solver": ChatReply(text="", tool_calls=("add",))},  # type: ignore[arg-type]
            "must be ToolCall, got str for 'solver'",
        ),
    ],
)
def test_a_wrong_action_is_refused_and_may_be_corrected(actions: Any, rule: str) -> None:
    judge = FunctionJudge(lambda task, result: result.output == "42")
    with make(answer, judge=judge) as env:
        env.reset()
        with pytest.raises(InvalidAction, match=rule):
            env.step(actions)
        assert env.step({"solver": "42"})[1] == {"solver": 1.0}


def test_a_parser_that_raises_leaves_the_episode_as_it_is() -> None:
    class Picky:
        def parse(self, text: str) -> ChatReply:
            return ChatReply(text=str(int(text)))

    judge = FunctionJudge(lambda task, result: result.output == "42")
    with make(answer, judge=judge, parser=Picky()) as env:
        env.reset()
        with pytest.raises(ValueError, match="invalid literal"):
            env.step({"solver": "forty-two"})
        assert env.step({"solver": "42"})[1] == {"solver": 1.0}


@pytest.mark.parametrize(
    "text", ["", " \n", "x" * 1_000_000, "何でも", "שלום \u202e", "\0", "👩\u200d🚀", "\ufffe"]
)
def test_any_other_text_reaches_the_workflow_as_it_is(text: str) -> None:
    judge = FunctionJudge(lambda task, result: result.output == text)
    with make(answer, judge=judge) as env:
        env.reset()
        assert env.step({"solver": text})[1] == {"solver": 1.0}


def test_a_workflow_that_waits_for_nothing_is_told_at_once() -> None:
    async def deadlock(task: Task, models: Models) -> WorkflowResult:
        await say(models, "solver", "Hi.")
        await asyncio.Event().wait()
        return WorkflowResult(output=None)

    told = pytest.raises(
        WorkflowError, match=r"(?s)waits for what nothing will bring.*test_env\.py"
    )
    with make(deadlock) as env:
        env.reset()
        with told:
            env.step({"solver": "x"})
        with pytest.raises(ResetNeeded):
            env.step({"solver": "x"})
        assert list(env.reset()[0]) == ["solver"]


def test_a_workflow_that_returns_no_result_fails_the_step() -> None:
    async def forget(task: Task, models: Models) -> WorkflowResult:
        return await say(models, "solver", "Hi.")  # type: ignore[return-value]

    with make(forget) as env:
        env.reset()
        with pytest.raises(WorkflowError, match="must return a WorkflowResult, got 'x'"):
            env.step({"solver": "x"})


def test_a_step_needs_an_episode() -> None:
    env = make(answer)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step({})
    env.reset()
    env.step({"solver": "x"})
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step({})
    env.reset()
    env.close()
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step({"solver": "x"})


@pytest.mark.parametrize(
    ("options", "rule"),
    [({"task": 10}, r"in 0 … 9"), ({"task": -1}, r"in 0 … 9"), ({"tasks": 1}, "'task' alone")],
)
def test_options_name_a_task(options: dict[str, int], rule: str) -> None:
    with make(answer) as env, pytest.raises(SettingError, match=rule):
        env.reset(options=options)


def test_a_workflow_without_a_call_ends_with_the_first_step() -> None:
    async def silent(task: Task, models: Models) -> WorkflowResult:
        return WorkflowResult(output=None)

    with make(silent) as env:
        assert env.reset() == ({}, {})
        assert env.step({}) == ({}, {}, {}, {}, {})


def test_a_failing_workflow_fails_the_step_and_the_next_reset_starts_anew() -> None:
    async def fail_on_bad_news(task: Task, models: Models) -> WorkflowResult:
        if await say(models, "solver", "News?") == "bad":
            raise ValueError("bad news")
        return WorkflowResult(output=None)

    with make(fail_on_bad_news) as env:
        env.reset()
        with pytest.raises(WorkflowError, match=r"ValueError\('bad news'\)"):
            env.step({"solver": "bad"})
        with pytest.raises(ResetNeeded):
            env.step({"solver": "good"})
        env.reset()
        assert env.step({"solver": "good"})[1] == {"solver": 1.0}


def test_a_judge_that_leaves_an_agent_out_fails_the_step() -> None:
    class Forgetful:
        async def score(self, task: Task, result: WorkflowResult) -> Score:
            return Score(rewards={"critic": 1.0}, success=True)

    with make(answer, judge=Forgetful()) as env:
        env.reset()
        with pytest.raises(JudgeError, match="each agent needs a finite reward"):
            env.step({"solver": "x"})


def test_a_workflow_that_blocks_its_loop_is_shown_with_its_stack() -> None:
    released = threading.Event()

    async def block(task: Task, models: Models) -> WorkflowResult:
        released.wait()
        return WorkflowResult(output=None)

    env = make(block, deadline_s=0.05)
    with pytest.raises(WorkflowError, match=r"(?s)leave its event loop free.*released\.wait\(\)"):
        env.reset()
    env.close()
    released.set()


def test_a_workflow_that_never_rests_is_told_what_it_waits_on() -> None:
    async def wait_for_ever(task: Task, models: Models) -> WorkflowResult:
        await asyncio.get_running_loop().create_future()
        return WorkflowResult(output=None)

    told = pytest.raises(WorkflowError, match=r"(?s)come to rest.*test_env\.py.*Future pending")
    with make(wait_for_ever, deadline_s=0.05) as env, told:
        env.reset()


def test_close_ends_tasks_and_threads_in_the_middle_of_an_episode() -> None:
    cleaned_up: list[str] = []

    async def with_resources(task: Task, models: Models) -> WorkflowResult:
        async def background() -> None:
            try:
                await say(models, "Bob", "Wait.")
            finally:
                cleaned_up.append("background")

        await asyncio.to_thread(time.sleep, 0.001)
        waiting = asyncio.create_task(background())
        await Agent("Ann", "", models["Ann"]).reply(UserMsg("user", "Hi."))
        await say(models, "Ann", "AgentScope swallowed the cancellation.")
        await waiting
        return WorkflowResult(output=None)

    before = set(threading.enumerate())
    env = make(with_resources)
    assert list(env.reset()[0]) == ["Ann", "Bob"]
    env.close()
    assert cleaned_up == ["background"]
    assert set(threading.enumerate()) <= before
    env.close()


def test_tasks_left_over_do_not_reach_into_the_next_episode() -> None:
    async def leave(task: Task, models: Models) -> WorkflowResult:
        async def late() -> None:
            await asyncio.sleep(0.01)
            await say(models, "stray", "Hi.")

        asyncio.create_task(late())  # noqa: RUF006 - left over on purpose
        return await answer(task, models)

    with make(leave) as env:
        env.reset()
        env.step({"solver": "x"} if env.agents == ["solver"] else dict.fromkeys(env.agents, "x"))
        assert list(env.reset()[0]) == ["solver", "stray"]


def test_a_running_event_loop_may_step_either_way() -> None:
    async def play() -> None:
        with make(two_questions) as env:
            assert env.reset()[0] == (await env.areset())[0] == {"solver": asked("0")}
            assert (await env.astep({"solver": ""}))[0] == {"solver": asked("1")}
            assert env.step({"solver": ""})[0] == {}

    asyncio.run(play())


def test_a_cancelled_step_abandons_the_episode() -> None:
    async def slow(task: Task, models: Models) -> WorkflowResult:
        await say(models, "solver", "Hi.")
        await asyncio.sleep(60)
        return WorkflowResult(output=None)

    async def play() -> None:
        with make(slow) as env:
            await env.areset()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(env.astep({"solver": ""}), timeout=0.02)
            with pytest.raises(ResetNeeded):
                await env.astep({"solver": ""})
            assert (await env.areset())[0] == {"solver": asked("Hi.")}

    asyncio.run(play())


def test_a_step_that_is_cancelled_before_it_begins_never_does() -> None:
    begun: list[str] = []

    async def slow(task: Task, models: Models) -> WorkflowResult:
        await say(models, "solver", "Hi.")
        begun.append(task.id)
        await asyncio.sleep(60)
        return WorkflowResult(output=None)

    async def play() -> None:
        with make(slow) as env:
            await env.areset()
            for _ in range(20):
                step = asyncio.create_task(env.astep({"solver": ""}))
                await asyncio.sleep(0)
                step.cancel()
                assert (await asyncio.wait_for(env.areset(), timeout=10))[0] != {}

    asyncio.run(play())


def test_observations_and_actions_are_in_their_spaces() -> None:
    with make(answer) as env:
        observations, _ = env.reset()
        assert observations["solver"] in env.observation_space("solver")
        assert "何でも" in env.action_space("solver")
        assert env.action_space("solver") is env.action_space("critic")

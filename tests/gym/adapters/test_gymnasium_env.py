"""The single-agent Gymnasium environment."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator

import pytest
from agentscope.agent import Agent, InjectionConfig
from agentscope.message import TextBlock, UserMsg
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from astuner_gym.adapters.gymnasium import GymnasiumEnv
from astuner_gym.adapters.reading import new_text
from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, ToolCall
from astuner_gym.environment import Environment
from astuner_gym.errors import WorkflowError
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, Workflow, WorkflowResult


async def add(a: int, b: int) -> ToolChunk:
    """Add two numbers."""
    return ToolChunk(content=[TextBlock(text=str(a + b))])


class Solve:
    """A ReAct agent with one tool."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        allow = PermissionDecision(behavior=PermissionBehavior.ALLOW, message="the test's own tool")
        solver = Agent(
            "solver",
            "You add.",
            models["solver"],
            toolkit=Toolkit(tools=[FunctionTool(add, permission=allow)]),
            injection_config=InjectionConfig(inject_runtime_state=False),
        )
        reply = await solver.reply(UserMsg("user", task.text("question")))
        return WorkflowResult(output=reply.get_text_content(), metrics={"length": 2.0})


class Debate:
    """Two agents at once."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        await asyncio.gather(*(models[name]([UserMsg("user", "Go.")]) for name in ("Ann", "Bob")))
        return WorkflowResult(output="42")


class Silent:
    """No model call."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        return WorkflowResult(output="42")


class Nodding:
    async def respond(self, call: ChatCall) -> ChatReply:
        return ChatReply(text="Yes.")


def environment(workflow: Workflow) -> Environment:
    tasks = [{"question": f"{number} + 40?"} for number in range(5)]
    return Environment(
        name="test",
        workflow=workflow,
        judge=FunctionJudge(lambda task, result: result.output == "42"),
        train_tasks=RecordTasks("t", tasks),
    )


@pytest.fixture
def env() -> Iterator[GymnasiumEnv]:
    env = GymnasiumEnv(environment(Solve()))
    yield env
    env.close()


def test_gymnasiums_own_checker_is_content(env: GymnasiumEnv) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)


def test_an_observation_is_what_is_new_since_the_last_turn(env: GymnasiumEnv) -> None:
    observation, info = env.reset(options={"task": 2})
    assert observation == "system: You add.\n\nuser: 2 + 40?"
    assert [tool["function"]["name"] for tool in info["call"].tools] == ["add"]
    action = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 40}}\n</tool_call>'
    observation, reward, terminated, truncated, info = env.step(action)
    assert observation == "tool add: 42"
    assert (reward, terminated, truncated) == (0.0, False, False)
    observation, reward, terminated, truncated, info = env.step("42")
    assert (observation, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info == {"task": "t-2", "success": True, "metrics": {"workflow/length": 2.0}}


class InTurn:
    """Ann and Bob add a line each to what Ann and Bob see, twice."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        said = []
        for number, name in enumerate(("Ann", "Bob", "Ann", "Bob")):
            said.append(UserMsg("user", f"line {number}"))
            await models[name](said)
        return WorkflowResult(output="42")


def test_agents_in_turn_read_what_is_new_since_their_own_last_turn() -> None:
    env = GymnasiumEnv(environment(InTurn()))
    read = [env.reset()[0]]
    read += [env.step("Yes.")[0] for _ in range(3)]
    env.close()
    both = "user: line 1\n\nuser: line 2"
    assert read == [
        "user: line 0",
        "user: line 0\n\nuser: line 1",
        both,
        both.replace("2", "3").replace("1", "2"),
    ]


def test_observations_and_samples_are_in_the_spaces(env: GymnasiumEnv) -> None:
    observation, _ = env.reset(seed=3)
    assert observation in env.observation_space
    assert env.step(env.action_space.sample())[0] in env.observation_space


def test_agents_who_act_at_once_need_an_opponent() -> None:
    env = GymnasiumEnv(environment(Debate()))
    with pytest.raises(WorkflowError, match=r"got \['Ann', 'Bob'\]; name the agent"):
        env.reset()
    with pytest.raises(ResetNeeded):
        env.step("Yes.")
    env.close()
    env = GymnasiumEnv(environment(Debate()), agent="Ann", opponent=Nodding())
    env.reset()
    assert env.step("Yes.")[1:4] == (1.0, True, False)
    env.close()


def test_a_workflow_without_a_call_cannot_be_stepped() -> None:
    env = GymnasiumEnv(environment(Silent()))
    with pytest.raises(WorkflowError, match="must call its model"):
        env.reset()
    env.close()


def test_rewritten_history_is_shown_whole() -> None:
    known = (ChatMessage(role=ChatRole.USER, text="one"),)
    rewritten = (ChatMessage(role=ChatRole.USER, text="summary of one"),)
    assert new_text(known, rewritten) == "user: summary of one"


def test_tool_calls_of_others_are_shown() -> None:
    call = ToolCall("add", '{"a": 1}')
    message = ChatMessage(role=ChatRole.ASSISTANT, text="I add.", tool_calls=(call,))
    assert new_text((), (message,)) == 'assistant: I add.\nadd({"a": 1})'

"""The chat model under real AgentScope agents, answered by a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from agentscope.agent import Agent, InjectionConfig, ModelConfig
from agentscope.formatter import OpenAIMultiAgentFormatter
from agentscope.message import Msg, TextBlock, UserMsg
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit
from pydantic import BaseModel

from astuner_gym.chat.messages import ChatCall, ChatReply, ChatRole, ToolCall
from astuner_gym.chat.model import AgentChatModel, EpisodeModels
from astuner_gym.errors import EpisodeClosedError, WorkflowError


class Script:
    """Answers each call by a function of it, and keeps the calls."""

    def __init__(self, answer: Callable[[ChatCall], ChatReply]) -> None:
        self.calls: list[ChatCall] = []
        self._answer = answer

    async def respond(self, call: ChatCall) -> ChatReply:
        self.calls.append(call)
        return self._answer(call)


async def add(a: int, b: int) -> ToolChunk:
    """Add two numbers.

    Args:
        a (int): the first
        b (int): the second
    """
    return ToolChunk(content=[TextBlock(text=str(a + b))])


def agent(model: AgentChatModel, *, name: str = "solver") -> Agent:
    allow = PermissionDecision(behavior=PermissionBehavior.ALLOW, message="the test's own tool")
    return Agent(
        name=name,
        system_prompt="You add.",
        model=model,
        toolkit=Toolkit(tools=[FunctionTool(add, permission=allow)]),
        injection_config=InjectionConfig(inject_runtime_state=False),
    )


def add_twice(call: ChatCall) -> ChatReply:
    if call.index == 2:
        return ChatReply(text="Done.", prompt_tokens=7, completion_tokens=2)
    arguments = f'{{"a": {call.index},  "b": 1}}'
    return ChatReply(
        text=f"step {call.index}",
        thinking="hm" if call.index else "",
        tool_calls=(ToolCall("add", arguments), ToolCall("add", '{"a":5,"b":5}')),
    )


def test_a_tool_using_agent_makes_calls_that_extend_each_other() -> None:
    script = Script(add_twice)

    async def play() -> Msg:
        return await agent(EpisodeModels(script)["solver"]).reply(UserMsg("user", "Add."))

    message = asyncio.run(play())
    assert message.get_text_content() == "Done."
    assert [call.index for call in script.calls] == [0, 1, 2]
    assert {(call.agent, call.role) for call in script.calls} == {("solver", "solver")}
    assert script.calls[0].tools[0]["function"]["name"] == "add"  # type: ignore[index,call-overload]
    for before, after in zip(script.calls, script.calls[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages

    replied, first, second = script.calls[1].messages[2:]
    assert replied.text == "step 0"
    assert [call.arguments for call in replied.tool_calls] == ['{"a": 0,  "b": 1}', '{"a":5,"b":5}']
    assert [call.id for call in replied.tool_calls] == ["solver-0-0", "solver-0-1"]
    assert [(first.text, first.tool_call_id), (second.text, second.tool_call_id)] == [
        ("1", "solver-0-0"),
        ("10", "solver-0-1"),
    ]
    assert script.calls[2].messages[5].thinking == "hm"


def test_calls_hold_the_messages_and_tools_of_the_call_before_them() -> None:
    script = Script(add_twice)
    asyncio.run(agent(EpisodeModels(script)["solver"]).reply(UserMsg("user", "Add.")))
    for earlier, later in pairwise(script.calls):
        assert len(later.messages) > len(earlier.messages)
        shared = zip(earlier.messages, later.messages, strict=False)
        assert all(new is old for old, new in shared)
        assert later.tools is earlier.tools


def test_a_rewritten_message_and_those_after_it_are_not_taken_from_the_call_before() -> None:
    script = Script(lambda call: ChatReply(text="Yes."))
    model = EpisodeModels(script)["solver"]

    async def ask(*questions: str) -> None:
        await model([UserMsg("user", question) for question in questions])

    async def play() -> None:
        await ask("A?", "B?", "C?")
        await ask("A?", "D?", "C?")

    asyncio.run(play())
    first, second = (call.messages for call in script.calls)
    assert [message.text for message in second] == ["A?", "D?", "C?"]
    assert [new is old for old, new in zip(first, second, strict=True)] == [True, False, False]


def test_a_response_is_whole_and_counts_tokens() -> None:
    async def play() -> None:
        model = EpisodeModels(Script(lambda call: ChatReply(text="Hi.", prompt_tokens=7)))["solver"]
        response = await model([UserMsg("user", "Hello.")])
        assert response.is_last  # type: ignore[union-attr]
        assert response.usage.input_tokens == 7  # type: ignore[union-attr]
        assert response.content[0].id == "solver-0-text"  # type: ignore[union-attr]

    asyncio.run(play())


def test_structured_output_reads_the_forced_tools_arguments() -> None:
    class Answer(BaseModel):
        value: int

    script = Script(
        lambda call: ChatReply(
            text="", tool_calls=(ToolCall("generate_structured_output", '{"value": 3}'),)
        )
    )

    async def play() -> dict[str, object]:
        model = EpisodeModels(script)["solver"]
        return (await model.generate_structured_output([UserMsg("user", "?")], Answer)).content

    assert asyncio.run(play()) == {"value": 3}


def test_another_formatter_may_make_the_prompt() -> None:
    script = Script(lambda call: ChatReply(text="Hi."))
    models = EpisodeModels(script, formatter=OpenAIMultiAgentFormatter())
    asyncio.run(agent(models["Ann"], name="Ann").reply(UserMsg("host", "Say hi.")))
    system, history = script.calls[0].messages
    assert system.role is ChatRole.SYSTEM
    assert "host: Say hi." in history.text


def test_an_agent_has_one_model_and_one_role() -> None:
    models = EpisodeModels(Script(add_twice))
    assert models.for_role("Ann", role="wolf") is models.for_role("Ann", role="wolf")
    assert models["Bob"].role == "Bob"
    assert models.roles == {"Ann": "wolf", "Bob": "Bob"}
    with pytest.raises(WorkflowError, match="one role in an episode, got 'Ann' for 'Ann'"):
        models["Ann"]


def test_agents_count_their_calls_apart() -> None:
    script = Script(lambda call: ChatReply(text="Hi."))

    async def play() -> None:
        models = EpisodeModels(script)
        for name in ("Ann", "Bob", "Ann"):
            await models[name]([UserMsg("user", "Hello.")])

    asyncio.run(play())
    assert [(call.agent, call.index) for call in script.calls] == [
        ("Ann", 0),
        ("Bob", 0),
        ("Ann", 1),
    ]


def test_the_first_failure_is_remembered_and_ends_the_episode() -> None:
    failure = RuntimeError("the sampler is gone")

    def fail(call: ChatCall) -> ChatReply:
        raise failure

    script = Script(fail)
    models = EpisodeModels(script)

    retrying = Agent("solver", "", models["solver"], model_config=ModelConfig(max_retries=3))
    with pytest.raises(EpisodeClosedError):
        asyncio.run(retrying.reply(UserMsg("user", "Add.")))
    assert models.failure is failure
    assert len(script.calls) == 1


def test_a_closed_episode_cancels_open_calls_and_refuses_others() -> None:
    class Silent:
        async def respond(self, call: ChatCall) -> ChatReply:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets the event")

    async def play() -> None:
        models = EpisodeModels(Silent())
        solver = agent(models["solver"])
        speaking = asyncio.create_task(solver.reply(UserMsg("user", "Add.")))
        await asyncio.sleep(0.01)
        models.close()
        apology = await speaking
        assert apology.finished_reason == "interrupted"
        with pytest.raises(EpisodeClosedError, match="got call 1 of 'solver'"):
            await models["solver"]([UserMsg("user", "Hello.")])
        assert models.failure is None

    asyncio.run(play())

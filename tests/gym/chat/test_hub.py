"""Group talk: who hears what, in which order, and what stays private."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from agentscope.agent import Agent, InjectionConfig
from agentscope.formatter import FormatterBase, OpenAIMultiAgentFormatter
from agentscope.message import TextBlock
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit

from astuner_gym.chat.hub import MessageHub
from astuner_gym.chat.messages import ChatCall, ChatReply, ToolCall
from astuner_gym.chat.model import EpisodeModels
from astuner_gym.errors import WorkflowError

ALLOW = PermissionDecision(behavior=PermissionBehavior.ALLOW, message="dice are harmless")


class Script:
    """Replies ``<agent> <call>``, slow agents late, and remembers every prompt."""

    def __init__(self, *, slow: str = "") -> None:
        self.slow = slow
        self.calls: list[ChatCall] = []

    async def respond(self, call: ChatCall) -> ChatReply:
        self.calls.append(call)
        if call.agent == self.slow:
            await asyncio.sleep(0.02)
        return ChatReply(text=f"{call.agent} {call.index}", thinking="a secret")

    def prompts(self, agent: str) -> list[list[str]]:
        return [
            [f"{message.role}: {message.text}" for message in call.messages]
            for call in self.calls
            if call.agent == agent
        ]


def talk(
    script: Script,
    scene: Callable[[MessageHub, list[Agent]], Awaitable[None]],
    *,
    formatter: FormatterBase | None = None,
    toolkit: Toolkit | None = None,
) -> None:
    async def run() -> None:
        models = EpisodeModels(script, formatter=formatter)
        agents = [
            Agent(
                name=name,
                system_prompt=f"You are {name}.",
                model=models[name],
                toolkit=toolkit or Toolkit(),
                injection_config=InjectionConfig(inject_runtime_state=False),
            )
            for name in ("Ann", "Bob", "Cat")
        ]
        await scene(MessageHub(agents), agents)

    asyncio.run(run())


async def in_turn(hub: MessageHub, agents: list[Agent]) -> None:
    await hub.announce("Say hi.")
    for agent in [*agents, agents[0]]:
        await hub.speak(agent)


def test_agents_hear_each_other_as_named_users_and_themselves_as_the_assistant() -> None:
    script = Script()
    talk(script, in_turn)
    assert script.prompts("Cat") == [
        ["system: You are Cat.", "user: moderator: Say hi.", "user: Ann: Ann 0", "user: Bob: Bob 0"]
    ]
    assert script.prompts("Ann")[1] == [
        "system: You are Ann.",
        "user: moderator: Say hi.",
        "assistant: Ann 0",
        "user: Bob: Bob 0",
        "user: Cat: Cat 0",
    ]


def test_thinking_is_not_passed_on() -> None:
    script = Script()
    talk(script, in_turn)
    for call in script.calls:
        heard = [message for message in call.messages if message.role != "assistant"]
        assert not [m for m in heard if "secret" in m.text or m.thinking]


def test_those_who_speak_at_once_hear_each_other_afterwards_in_the_order_given() -> None:
    script = Script(slow="Ann")

    async def votes(hub: MessageHub, agents: list[Agent]) -> None:
        said = await hub.speak_at_once(agents, "Vote.")
        assert said == ("Ann 0", "Bob 0", "Cat 0")
        await hub.speak(agents[2], "Again.")

    talk(script, votes)
    assert [prompts[0][1:] for prompts in map(script.prompts, ("Ann", "Bob"))] == [
        ["user: Vote."],
        ["user: Vote."],
    ]
    assert script.prompts("Cat")[1] == [
        "system: You are Cat.",
        "user: Vote.",
        "assistant: Cat 0",
        "user: Ann: Ann 0",
        "user: Bob: Bob 0",
        "user: Again.",
    ]


def test_tools_may_be_used_and_only_the_words_are_heard() -> None:
    class Rolls(Script):
        async def respond(self, call: ChatCall) -> ChatReply:
            reply = await super().respond(call)
            if call.agent == "Ann" and call.index == 0:
                return ChatReply(text="", tool_calls=(ToolCall(name="roll", arguments="{}"),))
            return reply

    def roll() -> ToolChunk:
        """Roll a die."""
        return ToolChunk(content=[TextBlock(text="6")])

    script = Rolls()
    talk(script, in_turn, toolkit=Toolkit(tools=[FunctionTool(roll, permission=ALLOW)]))
    assert script.prompts("Bob")[0][2:] == ["user: Ann: Ann 1"]


def test_who_has_left_hears_no_more_and_who_comes_late_heard_nothing() -> None:
    script = Script()

    async def scene(hub: MessageHub, agents: list[Agent]) -> None:
        ann, bob, cat = agents
        hub.remove(cat)
        await hub.speak(ann)
        hub.remove(bob)
        hub.add(cat)
        await hub.speak(ann)
        await cat.reply()
        await bob.reply()

    talk(script, scene)
    assert script.prompts("Cat") == [["system: You are Cat.", "user: Ann: Ann 1"]]
    assert script.prompts("Bob") == [["system: You are Bob.", "user: Ann: Ann 0"]]


def test_an_outsider_cannot_speak_or_leave_and_names_are_unique() -> None:
    async def scene(hub: MessageHub, agents: list[Agent]) -> None:
        hub.remove(agents[0])
        with pytest.raises(WorkflowError, match=r"only participants .*'Ann'.*\['Bob', 'Cat'\]"):
            await hub.speak(agents[0])
        with pytest.raises(WorkflowError, match="only participants"):
            hub.remove(agents[0])
        with pytest.raises(WorkflowError, match="two of 'Bob'"):
            hub.add(agents[1])

    talk(Script(), scene)


def test_agentscopes_own_multi_agent_formatter_rewrites_what_was_said() -> None:
    """Usable, at the price of a timeline a call: see tests/rl/tracking/test_group_talk.py."""
    script = Script()
    talk(script, in_turn, formatter=OpenAIMultiAgentFormatter())
    first, second = script.prompts("Ann")
    assert "Ann 0" in second[1]
    assert second[: len(first)] != first

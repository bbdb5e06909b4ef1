"""AgentScope messages as the prompt of a policy, so that each prompt extends the one before it.

A policy learns and is sampled fastest when call *k+1* starts with the tokens of call *k*. So an
agent's own turns stay assistant messages, in the pieces in which the policy wrote them, and what
others said comes as one user message each. Example, for the agent ``Ann``::

    Msg(user, "Say hi.")  Msg(Ann, "Hello.")  Msg(Bob, "Hi Ann.")
    -> user: "Say hi."    assistant: "Hello."  user: "Bob: Hi Ann."

AgentScope keeps one reply in one ``Msg``, however many calls it took; the ids that
:mod:`astuner_gym.chat.model` gives to the blocks of a reply say where one call ends::

    Msg(Ann, [text, tool_call, tool_result, text])
    -> assistant(text, tool_call)  tool  assistant(text)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypeAlias

from agentscope.formatter import FormatterBase
from agentscope.message import (
    ContentBlock,
    Msg,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from pydantic import PrivateAttr

from astuner_gym.chat.messages import ChatMessage, ChatRole, ToolCall
from astuner_gym.chat.openai_format import message_to_openai, not_text

_Spoken: TypeAlias = TextBlock | ThinkingBlock | ToolCallBlock

_ANONYMOUS = "user"
"""The name that AgentScope's own examples give to whoever is not an agent."""


class ExtendingFormatter(FormatterBase):
    """Formats for one agent: own turns as the assistant's, other speakers' as ``name: text``."""

    agent: str
    """Whose prompts these are; an assistant message of another name is another speaker's."""
    _issued: re.Pattern[str] = PrivateAttr()
    """Matches the block ids of this agent's own replies; group 1 is the call's number."""

    def model_post_init(self, context: Any, /) -> None:
        """Compile what recognises the agent's own blocks."""
        self._issued = re.compile(rf"{re.escape(self.agent)}-(\d+)-(?:\d+|text|thinking)")

    def prompt(self, messages: Sequence[Msg]) -> tuple[ChatMessage, ...]:
        """Return the prompt that ``messages`` make.

        Raises:
            WorkflowError: A message holds an image or other data: a policy reads text only.
        """
        prompt: list[ChatMessage] = []
        for message in messages:
            if message.role == "assistant" and self._is_own(message):
                prompt += self._own_turns(message.content)
            else:
                prompt += self._heard(message)
        return tuple(prompt)

    async def format(self, msgs: list[Msg]) -> list[dict[str, Any]]:
        """Return the same prompt as dicts of OpenAI's chat API."""
        return [message_to_openai(message) for message in self.prompt(msgs)]

    def _is_own(self, message: Msg) -> bool:
        # An AgentScope agent may bear another name than its model; its blocks tell. Only an
        # agent's own context holds blocks other than text: AgentScope lets none be observed.
        return message.name == self.agent or any(
            block.type != "text" or self._issued.fullmatch(block.id) for block in message.content
        )

    def _heard(self, message: Msg) -> list[ChatMessage]:
        """Return what another speaker, or the system, said: one message, or none if it is empty."""
        if not message.content:
            return []
        text = _text(message.content, source=f"a message of {message.name!r}")
        if message.role == "system":
            return [ChatMessage(role=ChatRole.SYSTEM, text=text)]
        if message.name in (self.agent, _ANONYMOUS):
            return [ChatMessage(role=ChatRole.USER, text=text)]
        return [ChatMessage(role=ChatRole.USER, text=f"{message.name}: {text}", name=message.name)]

    def _own_turns(self, blocks: Sequence[ContentBlock]) -> list[ChatMessage]:
        """Split one AgentScope reply into the policy's turns and what came between them."""
        turns: list[ChatMessage] = []
        turn: list[_Spoken] = []
        number = ""
        issued = self._issued
        for block in blocks:
            if block.type == "tool_result":
                interjection = _tool_result(block)
            elif block.type == "hint":
                interjection = ChatMessage(
                    role=ChatRole.USER, text=_text(block.hint, source="a hint")
                )
            elif block.type == "data":
                raise not_text("an assistant message", block.source.media_type)
            else:
                call = issued.fullmatch(block.id)
                if call and call[1] != number:
                    turns += _assistant(turn)
                    turn = []
                    number = call[1]
                turn.append(block)
                continue
            turns += [*_assistant(turn), interjection]
            turn = []
        return _results_in_order_of_calls(turns + _assistant(turn))


def _results_in_order_of_calls(turns: list[ChatMessage]) -> list[ChatMessage]:
    """Sort the results that follow a turn by its calls: concurrent tools end in any order."""
    ordered: list[ChatMessage] = []
    rank: dict[str, int] = {}
    for is_result, group in groupby(turns, key=lambda turn: turn.role is ChatRole.TOOL):
        if is_result:
            ordered += sorted(group, key=lambda turn: rank.get(turn.tool_call_id, len(rank)))
            continue
        for turn in group:
            ordered.append(turn)
            rank = {call.id: position for position, call in enumerate(turn.tool_calls)}
    return ordered


def _assistant(blocks: Sequence[_Spoken]) -> list[ChatMessage]:
    """Return the blocks of one call as one message; none for no blocks."""
    if not blocks:
        return []
    return [
        ChatMessage(
            role=ChatRole.ASSISTANT,
            text="\n".join(block.text for block in blocks if block.type == "text"),
            thinking="\n".join(block.thinking for block in blocks if block.type == "thinking"),
            tool_calls=tuple(
                ToolCall(name=block.name, arguments=block.input, id=block.id)
                for block in blocks
                if block.type == "tool_call"
            ),
        )
    ]


def _tool_result(block: ToolResultBlock) -> ChatMessage:
    return ChatMessage(
        role=ChatRole.TOOL,
        text=_text(block.output, source=f"the result of the tool {block.name!r}"),
        tool_call_id=block.id,
        name=block.name,
    )


def _text(content: str | Sequence[ContentBlock], *, source: str) -> str:
    if isinstance(content, str):
        return content
    lines = []
    for block in content:
        if block.type != "text":
            kind = block.source.media_type if block.type == "data" else block.type
            raise not_text(source, kind)
        lines.append(block.text)
    return "\n".join(lines)

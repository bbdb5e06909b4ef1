"""What passes between an agent and the policy that answers it: messages, calls and replies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from astuner_gym.task import JsonValue


class ChatRole(StrEnum):
    """Who wrote a message, in the chat template's terms; not an agent's role in a game."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the policy asked for."""

    name: str
    arguments: str
    """The arguments as the policy wrote them: a raw JSON string, never re-serialised."""
    id: str = field(default="", compare=False)
    """Derived from (agent, call, position); two calls are equal whatever their ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a prompt."""

    role: ChatRole
    text: str = ""
    thinking: str = ""
    """Reasoning of an assistant message; a chat template may strip it from earlier turns."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """Which call a tool message answers."""
    name: str = ""
    """Speaker of a user message or tool of a tool message; many templates ignore it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """What the policy answered, as the agent sees it."""

    text: str
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    malformed_tool_call: bool = False
    """True if the text holds the marks of a tool call that does not parse; it stays in ``text``."""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def with_call_ids(self, prefix: str) -> ChatReply:
        """Return this reply with tool-call ids ``<prefix>-0``, ``<prefix>-1``, …"""
        calls = tuple(
            replace(call, id=f"{prefix}-{position}")
            for position, call in enumerate(self.tool_calls)
        )
        return replace(self, tool_calls=calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """One request of one agent, before it is answered."""

    agent: str
    """Unique within the episode; identity is this key, never guessed from text."""
    role: str
    """The agent's role, by which rewards are grouped; equals ``agent`` where none was given."""
    index: int
    """Counts the agent's calls from 0."""
    messages: tuple[ChatMessage, ...]
    tools: tuple[Mapping[str, JsonValue], ...] = ()
    """JSON schemas of the tools on offer, in the OpenAI function format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A whole exchange to learn from: every assistant message in it is a target."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[Mapping[str, JsonValue], ...] = ()


class Responder(Protocol):
    """Answers calls: a sampler behind a tracker, a scripted policy, or whoever steps the env."""

    async def respond(self, call: ChatCall) -> ChatReply:
        """Return the reply; raising ends the episode."""
        ...

"""Messages as the dicts of OpenAI's chat API, in which formatters, servers and data sets speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from astuner_gym.chat.messages import ChatMessage, ChatRole, ToolCall
from astuner_gym.errors import WorkflowError


def message_from_openai(message: Mapping[str, Any]) -> ChatMessage:
    """Return the message that a dict stands for.

    Raises:
        WorkflowError: It holds something other than text, or is of an unknown role.
    """
    role = message["role"]
    if role not in tuple(ChatRole):
        raise WorkflowError(f"a message's role must be one of {[*ChatRole]}, got {role!r}")
    return ChatMessage(
        role=ChatRole(role),
        text=_text(message.get("content"), source=f"a message of the {role}"),
        thinking=message.get("reasoning_content") or "",
        tool_calls=tuple(
            ToolCall(
                name=call["function"]["name"],
                arguments=call["function"]["arguments"],
                id=call.get("id", ""),
            )
            for call in message.get("tool_calls") or ()
        ),
        tool_call_id=message.get("tool_call_id", ""),
        name=message.get("name", ""),
    )


def message_to_openai(message: ChatMessage) -> dict[str, Any]:
    """Return the dict that stands for a message; what is empty is left out, except the text."""
    formatted: dict[str, Any] = {"role": message.role.value, "content": message.text}
    if message.thinking:
        formatted["reasoning_content"] = message.thinking
    if message.tool_calls:
        formatted["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        formatted["tool_call_id"] = message.tool_call_id
    if message.name:
        formatted["name"] = message.name
    return formatted


def not_text(source: str, kind: str) -> WorkflowError:
    """Return the error for content of another kind than text."""
    return WorkflowError(
        f"a policy reads text only, got a block of {kind!r} in {source}; describe it in text"
    )


def _text(content: str | Sequence[Mapping[str, Any]] | None, *, source: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part["type"] != "text":
            raise not_text(source, part["type"])
    return "\n".join(part["text"] for part in content)

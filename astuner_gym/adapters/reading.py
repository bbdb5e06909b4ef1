"""What an agent has to read since its own last turn, as text."""

from __future__ import annotations

from collections.abc import Sequence

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatRole


class Reading:
    """Remembers the last call of each agent of an episode.

    Example: of the turns of Ann, Bob and Ann, the third shows what came since the first.
    """

    def __init__(self) -> None:
        """Start with agents who have read nothing."""
        self._last: dict[str, ChatCall] = {}

    def new(self, call: ChatCall) -> str:
        """Return what the call holds beyond its agent's last one, and remember it."""
        before = self._last.get(call.agent)
        self._last[call.agent] = call
        return new_text(before.messages if before else (), call.messages)


def new_text(known: Sequence[ChatMessage], prompt: Sequence[ChatMessage]) -> str:
    r"""Return what ``prompt`` holds beyond the ``known`` one, as text to read.

    The agent's own reply to the known prompt is left out. A prompt that does not extend the known
    one, because its history was rewritten, is returned whole.

    Example: after the prompt ``user: "2+3?"``, the prompt that goes on with the assistant's tool
    call and its result gives ``"tool add: 5"``.
    """
    new = list(prompt)
    if known and tuple(new[: len(known)]) == tuple(known):
        new = new[len(known) :]
        if new and new[0].role is ChatRole.ASSISTANT:
            del new[0]
    return "\n\n".join(map(_readable, new))


def _readable(message: ChatMessage) -> str:
    speaker = f"tool {message.name}" if message.role is ChatRole.TOOL else message.role.value
    calls = (f"{call.name}({call.arguments})" for call in message.tool_calls)
    return f"{speaker}: " + "\n".join(filter(None, (message.text, *calls)))

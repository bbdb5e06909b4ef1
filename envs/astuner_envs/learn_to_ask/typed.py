"""A person types what the person of a dialogue says, and the clerk asks on or stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from astuner_envs.learn_to_ask.records import Decision, Message, Row, Speaker
from astuner_envs.learn_to_ask.reply import Reply
from astuner_gym.task import JsonValue
from astuner_gym.typed import Exchange


class TypedDialogue:
    """The history is all since the clerk stopped last; what is typed then begins another one."""

    prompt = "person"

    def record(self, earlier: Sequence[Exchange], line: str) -> Mapping[str, JsonValue]:
        """Return a row whose history ends with the line; nothing is known of what comes after."""
        history: list[Message] = []
        for exchange in earlier:
            reply = Reply(exchange.output if isinstance(exchange.output, str) else "")
            if reply.decision is Decision.STOP:
                history = []
                continue
            history.append(Message(Speaker.PERSON, exchange.line))
            if reply.text.strip():
                history.append(Message(Speaker.CLERK, reply.text.strip()))
        return Row(
            id=f"typed_{len(earlier)}",
            session_id="typed",
            topic="",
            history=(*history, Message(Speaker.PERSON, line)),
            decision=Decision.STOP,
            info="",
        ).record

"""What the environment is made of: whole dialogues, and the rows that they give.

A row is a dialogue up to one of the person's turns, and what came of it: whether the person went on
to say more (``continue``) or not (``stop``), and what that was. The fields are those of the
published Learn-to-Ask data (arXiv:2510.25441)::

    {"cid": "7_1", "session_id": "7", "diagn": "router",
     "messages": [{"role": "user", "content": "My router is broken."}, …],
     "decision_truth": "continue", "info_truth": "It is about four years old."}

A whole dialogue has ``session_id``, ``diagn`` and ``messages`` alone.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from astuner_gym.errors import TaskDataError
from astuner_gym.task import JsonValue, Task

ROW_FIELDS: Final = ("cid", "decision_truth", "info_truth")
"""Fields that a row has and a whole dialogue has not."""


class Speaker(StrEnum):
    """Who wrote a message."""

    PERSON = "user"
    CLERK = "assistant"


class Decision(StrEnum):
    """Whether to ask on."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a dialogue."""

    speaker: Speaker
    text: str

    @property
    def record(self) -> dict[str, JsonValue]:
        """The message as data: ``role`` and ``content``."""
        return {"role": self.speaker.value, "content": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A whole dialogue."""

    id: str
    topic: str
    """What it is about: the field ``diagn``."""
    messages: tuple[Message, ...]

    @classmethod
    def of(cls, task: Task) -> Session:
        """Read ``{"session_id": …, "diagn": …, "messages": [{"role": …, "content": …}, …]}``.

        Raises:
            TaskDataError: A field is absent or has another value than it may have.
        """
        return cls(
            id=_name(task, "session_id"),
            topic=_name(task, "diagn"),
            messages=_messages(task),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A dialogue so far, and what is known of the rest."""

    id: str
    """The field ``cid``."""
    session_id: str
    topic: str
    """The field ``diagn``."""
    history: tuple[Message, ...]
    """All messages up to one of the person's turns, which it ends with."""
    decision: Decision
    """The field ``decision_truth``."""
    info: str
    """What the person went on to say, or what was extracted of it; the field ``info_truth``, which
    a row that says ``stop`` may lack."""

    @property
    def record(self) -> dict[str, JsonValue]:
        """The row as published data has it."""
        return {
            "cid": self.id,
            "session_id": self.session_id,
            "diagn": self.topic,
            "messages": [message.record for message in self.history],
            "decision_truth": self.decision.value,
            "info_truth": self.info,
        }

    @classmethod
    def of(cls, task: Task) -> Row:
        """Read a task's record.

        Raises:
            TaskDataError: A field is absent or has another value than it may have.
        """
        history = _messages(task)
        if history[-1].speaker is not Speaker.PERSON:
            raise TaskDataError(
                f"task {task.id}: 'messages' must end with one of role 'user', got 'assistant'; "
                "leave out what comes after the person's turn"
            )
        decision = task.text("decision_truth")
        if decision not in [*Decision]:
            raise TaskDataError(
                f"task {task.id}: field 'decision_truth' must be one of {[*map(str, Decision)]}, "
                f"got {decision!r}"
            )
        if decision == Decision.STOP and task.record.get("info_truth") is None:
            info = ""
        else:
            info = task.text("info_truth")
        if decision == Decision.CONTINUE and not info.strip():
            raise TaskDataError(
                f"task {task.id}: field 'info_truth' must say what the person went on to say where "
                "'decision_truth' is 'continue', it is empty; leave the row out"
            )
        return cls(
            id=_name(task, "cid"),
            session_id=_name(task, "session_id"),
            topic=_name(task, "diagn"),
            history=history,
            decision=Decision(decision),
            info=info,
        )


def _name(task: Task, field: str) -> str:
    """Return text, or a number as text: published session ids are numbers."""
    value = task.record.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return task.text(field)


def _messages(task: Task) -> tuple[Message, ...]:
    """Return the messages that are not empty."""
    entries = task.record.get("messages")
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        raise TaskDataError(
            f"task {task.id}: field 'messages' must be a list of messages, "
            f"got {reprlib.repr(entries)}"
        )
    messages = [_message(task, number, entry) for number, entry in enumerate(entries)]
    said = tuple(message for message in messages if message.text)
    if not said:
        raise TaskDataError(f"task {task.id}: field 'messages' must hold text, it is empty")
    return said


def _message(task: Task, number: int, entry: JsonValue) -> Message:
    if isinstance(entry, dict):
        role, content = entry.get("role"), entry.get("content")
        if isinstance(role, str) and role in [*Speaker] and isinstance(content, str):
            return Message(Speaker(role), content.strip())
    raise TaskDataError(
        f"task {task.id}: messages[{number}] must be {{'role': 'user' or 'assistant', "
        f"'content': text}}, got {reprlib.repr(entry)}"
    )

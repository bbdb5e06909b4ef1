"""How what a person types becomes a task, where it is no field of a task's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from astuner_gym.task import JsonValue


@dataclass(frozen=True, slots=True)
class Exchange:
    """A line that was typed, and what the workflow gave for it."""

    line: str
    output: JsonValue


class TypedTasks(Protocol):
    """Makes tasks for ``astuner play``, each of all that was typed and answered so far."""

    @property
    def prompt(self) -> str:
        """What stands before the cursor: who or what the line is."""
        ...

    def record(self, earlier: Sequence[Exchange], line: str) -> Mapping[str, JsonValue]:
        """Return the record of the next task.

        Args:
            earlier: Lines that were answered, the oldest first.
            line: Not empty.
        """
        ...


@dataclass(frozen=True, slots=True)
class TypedField:
    """Every line is a task of its own: a record with the line in one of its fields."""

    prompt: str
    """The field."""
    pattern: Mapping[str, JsonValue]

    def record(self, earlier: Sequence[Exchange], line: str) -> Mapping[str, JsonValue]:
        """Return the pattern with the line in its field."""
        return {**self.pattern, self.prompt: line}

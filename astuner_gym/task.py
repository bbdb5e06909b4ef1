"""Tasks and where they come from: records by path, from the Hugging Face hub, or from a generator.

A task source is random-access and immutable, and the order in which tasks are used is a pure
function of a seed, so a resumed run needs no cursor but its step number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol, TypeAlias

from astuner_gym.errors import TaskDataError

JsonValue: TypeAlias = (
    "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
)


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that agents are asked to do."""

    id: str
    """Unique and stable within its source: the same record has the same id in every run."""
    record: Mapping[str, JsonValue]
    """The fields of the record, as its source holds them."""

    def text(self, field: str) -> str:
        """Return a field that must be text.

        Raises:
            TaskDataError: The field is absent or is not text.
        """
        value = self.record.get(field)
        if not isinstance(value, str):
            raise TaskDataError(
                f"task {self.id}: field {field!r} must be text, got {value!r}; "
                f"the record has the fields {sorted(self.record)}"
            )
        return value


class TaskSource(Protocol):
    """A sequence of tasks; ``source[i]`` is the same task whenever it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Task: ...


class RecordTasks:
    """Records that are already in memory, as tasks with ids ``<name>-<index>``."""

    def __init__(self, name: str, records: Sequence[Mapping[str, JsonValue]]) -> None:
        self._name = name
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int, /) -> Task:
        return Task(id=f"{self._name}-{index}", record=self._records[index])


class JsonlTasks:
    """A JSONL file: one JSON object a line, each with the required text fields.

    Raises:
        TaskDataError: The file is absent, empty, not UTF-8, or a line is malformed; the message
            names file, line and field.
    """

    def __init__(self, path: Path, *, required: Sequence[str]) -> None:
        self._name = path.stem
        self._path = path
        self._records: list[Mapping[str, JsonValue]] = []
        self._numbers: list[int] = []
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TaskDataError(
                f"{path}: task data must be a readable UTF-8 JSONL file: {error}"
            ) from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                self._records.append(_parse_line(line, where=f"{path}:{number}", required=required))
                self._numbers.append(number)
        if not self._records:
            raise TaskDataError(f"{path}: task data must hold at least one record, it is empty")

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int, /) -> Task:
        return Task(id=f"{self._name}-{index}", record=self._records[index])

    def place(self, index: int) -> str:
        """Return where a task's record is, ``data.jsonl:3``, for errors that are found later."""
        return f"{self._path}:{self._numbers[index]}"


def _parse_line(line: str, *, where: str, required: Sequence[str]) -> Mapping[str, JsonValue]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: also integers of too many digits
        raise TaskDataError(f"{where}: each line must be one JSON object: {error}") from error
    if not isinstance(record, dict):
        raise TaskDataError(
            f"{where}: each line must be a JSON object, got {type(record).__name__}"
        )
    for field in required:
        if field not in record:
            raise TaskDataError(
                f"{where}: field {field!r} is missing; the record has {sorted(record)}"
            )
        if not isinstance(record[field], str) or not record[field].strip():
            raise TaskDataError(
                f"{where}: field {field!r} must be non-empty text, got {record[field]!r}"
            )
    return record


class HubTasks:
    """A dataset of the Hugging Face hub; needs the extra ``hub``.

    Raises:
        TaskDataError: The dataset cannot be loaded, is empty, or lacks a required field.
    """

    def __init__(
        self, repository: str, *, subset: str | None, split: str, required: Sequence[str]
    ) -> None:
        self._name = f"{repository}-{split}"
        try:
            # Pulls in pandas and pyarrow, which only this source needs.
            from datasets import load_dataset  # type: ignore[import-untyped]
        except ImportError as error:
            raise TaskDataError(
                f"{repository}: tasks of the Hugging Face hub need the package datasets; "
                "pip install '.[hub]' in the checkout"
            ) from error
        try:
            self._rows = load_dataset(repository, subset, split=split)
        except Exception as error:  # the library raises many kinds; each means: not to be had
            raise TaskDataError(
                f"{repository}: the hub's split {split!r} could not be loaded: {error}"
            ) from error
        missing = [name for name in required if name not in self._rows.column_names]
        if missing or not len(self._rows):
            raise TaskDataError(
                f"{repository}: split {split!r} must have rows with the fields {list(required)}, "
                f"got {len(self._rows)} rows with {self._rows.column_names}"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int, /) -> Task:
        return Task(id=f"{self._name}-{index}", record=self._rows[index])


class TaskSlice:
    """Part of another source: its tasks ``start`` to ``stop``."""

    def __init__(self, source: TaskSource, *, start: int, stop: int) -> None:
        self._source = source
        self._indices = range(start, stop)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int, /) -> Task:
        return self._source[self._indices[index]]


def hold_out(source: TaskSource, *, at_most: int = 512) -> tuple[TaskSource, TaskSource]:
    """Split a source into tasks to train on and tasks held out.

    The last tenth is held out, at most ``at_most`` tasks and at least one. A single task serves
    as both: there is nothing to hold out.
    """
    size = len(source)
    if size == 1:
        return source, source
    held_out = min(at_most, max(1, size // 10))
    return (
        TaskSlice(source, start=0, stop=size - held_out),
        TaskSlice(source, start=size - held_out, stop=size),
    )


def task_indices(*, seed: int, size: int, start: int, count: int) -> list[int]:
    """Return the tasks at positions ``start`` to ``start + count`` of an endless shuffled stream.

    Each pass over the source is a permutation of its own, drawn from (seed, pass), so position
    ``i`` is known without replaying the positions before it.

    Args:
        seed: The run's seed.
        size: Number of tasks in the source; at least 1.
        start: First position of the stream.
        count: How many positions.

    Example: with ``size=2`` the stream is one permutation of {0, 1} after the other, so positions
    0 and 1 are distinct and so are 2 and 3.
    """
    permutations: dict[int, list[int]] = {}
    indices = []
    for position in range(start, start + count):
        epoch, offset = divmod(position, size)
        if epoch not in permutations:
            order = list(range(size))
            Random(f"task-order/{seed}/{epoch}").shuffle(order)
            permutations[epoch] = order
        indices.append(permutations[epoch][offset])
    return indices

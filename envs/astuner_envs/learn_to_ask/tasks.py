"""Where rows come from: the generator, users' JSONL files, and MTS-Dialog.

A JSONL file holds either rows or whole sessions, from which the pipeline makes the rows. A record
with any field that only rows have is a row, so one that lacks its truth is refused and not taken
for a session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from astuner_envs.learn_to_ask.intake.turns import IntakeTurns
from astuner_envs.learn_to_ask.mts_dialog import read_mts_dialog
from astuner_envs.learn_to_ask.pipeline import rows
from astuner_envs.learn_to_ask.records import ROW_FIELDS, Row, Session
from astuner_gym.errors import TaskDataError
from astuner_gym.task import JsonlTasks, RecordTasks, Task, TaskSource

MOST_HELD_OUT = 512
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IntakeTasks:
    """Generated rows as a task source."""

    turns: IntakeTurns

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, index: int, /) -> Task:
        name = f"{self.turns.intakes.split}-{index}"
        return Task(id=name, record=self.turns[index].row.record)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file: MTS-Dialog if it ends in ``.csv``, else JSONL.

    Raises:
        TaskDataError: The file is absent, malformed, or gives no row.
    """
    if path.suffix != ".csv":
        lines = _lines(path)
        if _is_row(lines[0]):
            return _read(lines, Row.of)
    found = [row for session in read_sessions(path) for row in rows(session)]
    if not found:
        raise TaskDataError(f"{path}: dialogues must give a row, none says anything")
    return found


def read_sessions(path: Path) -> list[Session]:
    """Return the whole dialogues of a file: MTS-Dialog if it ends in ``.csv``, else JSONL.

    Raises:
        TaskDataError: The file is absent or malformed, or holds rows.
    """
    if path.suffix == ".csv":
        return read_mts_dialog(path)
    lines = _lines(path)
    if _is_row(lines[0]):
        raise TaskDataError(
            f"{path}: whole dialogues have none of the fields {list(ROW_FIELDS)}, these are rows"
        )
    return _read(lines, Session.of)


def _lines(path: Path) -> JsonlTasks:
    lines = JsonlTasks(path, required=())
    for index in range(len(lines)):
        if _is_row(lines[index]) is not _is_row(lines[0]):
            raise TaskDataError(
                f"{lines.place(index)}: a file must hold rows, with the fields {list(ROW_FIELDS)}, "
                "or sessions, all without; put them in two files"
            )
    return lines


def _read(lines: JsonlTasks, of: Callable[[Task], T]) -> list[T]:
    found = []
    for index in range(len(lines)):
        try:
            found.append(of(lines[index]))
        except TaskDataError as error:
            raise TaskDataError(f"{lines.place(index)}: {error}") from error
    return found


def _is_row(line: Task) -> bool:
    return any(field in line.record for field in ROW_FIELDS)


def as_tasks(name: str, found: Sequence[Row]) -> TaskSource:
    """Return rows as a task source."""
    return RecordTasks(name, [row.record for row in found])


def hold_out_sessions(found: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Split rows into those to train on and those held out: the last tenth of the sessions.

    Rows of one session stay together, for each holds the beginning of the next. At most 512 rows
    are held out and at least one session; a single session serves as both.
    """
    sessions = list(dict.fromkeys(row.session_id for row in found))
    if len(sessions) == 1:
        return list(found), list(found)
    last = {*sessions[-max(1, len(sessions) // 10) :]}
    held_out = [row for row in found if row.session_id in last]
    return [row for row in found if row.session_id not in last], held_out[:MOST_HELD_OUT]

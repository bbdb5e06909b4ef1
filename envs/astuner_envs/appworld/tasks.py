"""Tasks of a folder that is laid out as AppWorld lays out its data: by id and split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from astuner_envs.appworld.workflow import person_line
from astuner_gym.errors import SettingError, TaskDataError
from astuner_gym.task import Task


class AppWorldTasks:
    """The tasks of one split, or those of some ids, in the order of their file."""

    def __init__(self, data: Path, ids: Sequence[str]) -> None:
        """Read from the folder ``data`` when a task is asked for."""
        self._data = data
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int, /) -> Task:
        id_ = self._ids[index]
        path = self._data / "tasks" / id_ / "specs.json"
        try:
            specification = json.loads(path.read_text("utf-8"))
            person = specification["supervisor"]
            return Task(
                id=id_,
                record={
                    "task_id": id_,
                    "scenario": id_.partition("_")[0],
                    "instruction": str(specification["instruction"]),
                    "person": person_line(
                        f"{person['first_name']} {person['last_name']}",
                        str(person["email"]),
                        str(person["phone_number"]),
                    ),
                },
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TaskDataError(
                f"{path}: a task needs a readable specification with instruction and supervisor: "
                f"{error!r}"
            ) from error


def split_ids(data: Path, split: str) -> list[str]:
    """Return the ids of a split.

    Raises:
        SettingError: There is no such split, or it is empty; the message names those that exist.
    """
    path = data / "datasets" / f"{split}.txt"
    ids = path.read_text("utf-8").split() if path.is_file() else []
    if not ids:
        known = sorted(each.stem for each in (data / "datasets").glob("*.txt"))
        raise SettingError(f"a split must be one of {known}, got {split!r}")
    return ids

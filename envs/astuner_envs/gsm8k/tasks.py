"""Generated problems as tasks, in the same record format as the files of GSM8K, and such files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from astuner_envs.gsm8k.answer import gold_number
from astuner_envs.gsm8k.problems import Problems
from astuner_gym.errors import TaskDataError
from astuner_gym.task import JsonlTasks, Task

FIELDS: Final = ("question", "answer")


class ProblemTasks:
    """A split of the generator as a task source."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def __len__(self) -> int:
        return len(self._problems)

    def __getitem__(self, index: int, /) -> Task:
        return Task(id=f"{self._problems.split}-{index}", record=self._problems[index].record)


def read_problems(path: Path) -> JsonlTasks:
    """Return the problems of a JSONL file, each of which can be judged.

    Raises:
        TaskDataError: The file is absent or malformed, or an answer holds no number; the message
            names file and line.
    """
    problems = JsonlTasks(path, required=FIELDS)
    for index in range(len(problems)):
        try:
            gold_number(problems[index].text("answer"))
        except ValueError as error:
            raise TaskDataError(f"{problems.place(index)}: {error}") from error
    return problems

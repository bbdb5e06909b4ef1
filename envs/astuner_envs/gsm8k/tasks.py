"""Generated problems as tasks, in the same record format as the files of GSM8K."""

from __future__ import annotations

from astuner_envs.gsm8k.problems import Problems
from astuner_gym.task import Task


class ProblemTasks:
    """A split of the generator as a task source."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def __len__(self) -> int:
        return len(self._problems)

    def __getitem__(self, index: int, /) -> Task:
        return Task(id=f"{self._problems.split}-{index}", record=self._problems[index].record)

"""Which task an environment's next episode is on."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from random import Random
from typing import SupportsIndex

from astuner_gym.errors import SettingError
from astuner_gym.task import Task, TaskSource


class TaskDraws:
    """Draws tasks, one after the other, from a seed that a reset may set."""

    def __init__(self, tasks: TaskSource) -> None:
        """Draw from ``tasks``; without a seed the draws differ from process to process."""
        self._tasks = tasks
        self._random = Random()

    def next_task(self, *, seed: int | None, options: Mapping[str, int] | None) -> Task:
        """Return a task.

        Args:
            seed: From which this task and later ones are drawn; the draws go on if None.
            options: ``{"task": i}`` chooses the task at that index.

        Raises:
            SettingError: An option is unknown or out of range, or a number is no whole one.
        """
        options = options or {}
        unknown = options.keys() - {"task"}
        if unknown:
            raise SettingError(
                f"options of reset may hold 'task' alone, got {sorted(unknown)}; leave them out"
            )
        count = len(self._tasks)
        index = _whole("options['task']", options.get("task"))
        seed = _whole("seed", seed)
        if index is not None and not 0 <= index < count:
            raise SettingError(
                f"options['task'] must be in 0 … {count - 1}, the number of tasks less one, "
                f"got {index}"
            )
        if seed is not None:
            self._random = Random(seed)
        return self._tasks[self._random.randrange(count) if index is None else index]


def _whole(name: str, number: SupportsIndex | None) -> int | None:
    """Return the number as an int: callers have numpy's integers as often as Python's."""
    if number is None:
        return None
    try:
        return operator.index(number)
    except TypeError as error:
        raise SettingError(
            f"{name} must be a whole number, got {number!r} of type {type(number).__name__}"
        ) from error

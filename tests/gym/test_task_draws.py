"""Which task is next: a function of the seed, whatever kind of integer it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from astuner_gym.errors import SettingError
from astuner_gym.task import RecordTasks
from astuner_gym.task_draws import TaskDraws

TASKS = RecordTasks("t", [{} for _ in range(50)])


def ids(seed: Any, *, count: int = 4) -> list[str]:
    draws = TaskDraws(TASKS)
    first = draws.next_task(seed=seed, options=None)
    return [first.id, *(draws.next_task(seed=None, options=None).id for _ in range(count - 1))]


def test_a_seed_names_the_task_and_those_after_it() -> None:
    assert ids(3) == ids(3)
    assert ids(3) != ids(4)


def test_numpys_integers_are_as_good_as_pythons() -> None:
    assert ids(np.int64(3)) == ids(3)
    chosen = TaskDraws(TASKS).next_task(seed=None, options={"task": np.int32(7)})
    assert chosen.id == "t-7"


@pytest.mark.parametrize(
    ("seed", "options", "said"),
    [
        (1.5, None, "seed must be a whole number, got 1.5 of type float"),
        (None, {"task": "a"}, r"options\['task'\] must be a whole number, got 'a' of type str"),
        (None, {"task": 50}, r"options\['task'\] must be in 0 … 49"),
        (None, {"tasks": 1}, "options of reset may hold 'task' alone"),
    ],
)
def test_what_is_no_seed_or_option_is_refused(seed: Any, options: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        TaskDraws(TASKS).next_task(seed=seed, options=options)

"""Which slot a prompt gets, and what it reuses."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_rl.samplers.slot_table import WORTH_COPYING, Placement, Session, SlotTable, Wait
from astuner_rl.types import EpisodeKey

LONG = list(range(100, 100 + 2 * WORTH_COPYING))


def session(sample: int, agent: str = "alice") -> Session:
    return Session(EpisodeKey("train", 0, 0, sample), agent)


def place(table: SlotTable, who: Session, prompt: list[int]) -> Placement | Wait | None:
    return table.place(who, np.array(prompt, np.int64))


def run(table: SlotTable, who: Session, prompt: list[int]) -> Placement:
    """Place a prompt, compute all of it, and leave."""
    placement = place(table, who, prompt)
    assert isinstance(placement, Placement)
    table.cached[placement.slot] = len(prompt)
    table.leave(placement.slot, who)
    return placement


def test_a_prompt_that_extends_the_sessions_tokens_is_computed_from_their_end() -> None:
    table = SlotTable(slots=2, capacity=8)
    assert run(table, session(0), [1, 2, 3]) == Placement(slot=0, reused=0, source=0)
    assert run(table, session(1), [1, 2, 9]) == Placement(slot=1, reused=0, source=1)
    assert run(table, session(0), [1, 2, 3, 4, 5]) == Placement(slot=0, reused=3, source=0)


def test_a_prompt_that_differs_is_computed_from_the_first_other_token() -> None:
    table = SlotTable(slots=1, capacity=8)
    run(table, session(0), [1, 2, 3, 4])
    assert run(table, session(0), [1, 2, 7, 4]) == Placement(slot=0, reused=2, source=0)


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    table = SlotTable(slots=1, capacity=8)
    run(table, session(0), [1, 2, 3])
    assert run(table, session(0), [1, 2, 3]) == Placement(slot=0, reused=2, source=0)
    assert run(table, session(0), [1, 2]) == Placement(slot=0, reused=1, source=0)


def test_a_long_common_beginning_is_copied_from_another_slot() -> None:
    table = SlotTable(slots=2, capacity=100)
    run(table, session(0), [*LONG, 1])
    placed = place(table, session(1), [*LONG, 2])
    assert placed == Placement(slot=1, reused=len(LONG), source=0)


def test_a_short_common_beginning_is_not_worth_a_copy() -> None:
    table = SlotTable(slots=2, capacity=100)
    run(table, session(0), [*LONG[: WORTH_COPYING - 1], 1])
    placed = place(table, session(1), [*LONG[: WORTH_COPYING - 1], 2])
    assert placed == Placement(slot=1, reused=0, source=1)


def test_a_prompt_waits_while_another_computes_its_beginning() -> None:
    table = SlotTable(slots=2, capacity=100)
    place(table, session(0), [*LONG, 1])
    wait = place(table, session(1), [*LONG, 2])
    assert wait == Wait(slot=0, length=len(LONG))
    assert not table.is_over(wait)
    table.cached[0] = len(LONG)
    assert table.is_over(wait)
    assert place(table, session(1), [*LONG, 2]) == Placement(slot=1, reused=len(LONG), source=0)


def test_a_wait_is_over_when_the_other_request_is_cancelled() -> None:
    table = SlotTable(slots=2, capacity=100)
    place(table, session(0), [*LONG, 1])
    wait = place(table, session(1), [*LONG, 2])
    assert isinstance(wait, Wait)
    table.leave(0, session(0))
    assert table.is_over(wait)


def test_two_calls_of_one_session_at_once_get_two_slots() -> None:
    table = SlotTable(slots=2, capacity=8)
    first, second = place(table, session(0), [1, 2]), place(table, session(0), [1, 2, 3])
    assert isinstance(first, Placement)
    assert isinstance(second, Placement)
    assert first.slot != second.slot
    table.leave(second.slot, session(0))
    table.leave(first.slot, session(0))
    assert run(table, session(0), [5]).slot == second.slot


def test_no_slot_is_found_while_all_are_busy() -> None:
    table = SlotTable(slots=1, capacity=8)
    place(table, session(0), [1])
    assert place(table, session(1), [2]) is None


def test_released_slots_go_before_idle_sessions_and_those_by_age() -> None:
    table = SlotTable(slots=3, capacity=8)
    for sample in range(3):
        run(table, session(sample), [sample])
    table.release(session(1).episode)
    assert [run(table, session(sample), [sample]).slot for sample in (3, 4, 5)] == [1, 0, 2]


def test_after_clear_nothing_is_reused() -> None:
    table = SlotTable(slots=1, capacity=8)
    run(table, session(0), [1, 2, 3])
    table.clear()
    assert run(table, session(0), [1, 2, 3]) == Placement(slot=0, reused=0, source=0)


PROMPTS = st.tuples(
    st.integers(0, 4), st.integers(0, 1), st.lists(st.integers(0, 1), max_size=6), st.booleans()
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PROMPTS, max_size=30))
def test_reused_tokens_are_those_of_the_prompt_and_were_computed(
    steps: list[tuple[int, int, list[int], bool]],
) -> None:
    table = SlotTable(slots=3, capacity=100)
    computed: dict[int, list[int]] = {slot: [] for slot in range(3)}
    busy: dict[int, Session] = {}
    for sample, start, ending, leaves in steps:
        prompt = [*[start] * (2 * WORTH_COPYING), *ending]
        placement = place(table, session(sample), prompt)
        if isinstance(placement, Placement):
            assert placement.slot not in busy
            assert placement.reused < len(prompt)
            reused = computed[placement.source][: placement.reused]
            assert reused == prompt[: placement.reused]
            computed[placement.slot] = prompt
            table.cached[placement.slot] = len(prompt)
            busy[placement.slot] = session(sample)
        else:
            assert placement is None
            assert len(busy) == 3
        if leaves and busy:
            slot, who = busy.popitem()
            table.leave(slot, who)

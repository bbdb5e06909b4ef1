"""Credit by call: returns from a call on, and what they are compared with."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.algos.call_credit import call_groups, returns_to_go


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def floats(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_documented_return():
    assert returns_to_go(floats(0.5, 0, 1), ints(0, 0, 0)).tolist() == [1.5, 1, 1]


def test_what_one_agent_earns_is_not_another_s():
    rewards, unit = floats(1, 2, 4, 8, 16), ints(0, 0, 2, 2, 2)
    assert returns_to_go(rewards, unit).tolist() == [3, 2, 28, 24, 16]


def test_what_earned_the_same_returns_the_same_to_the_last_bit():
    """A sum over the whole batch would round differently for each of them."""
    returns = returns_to_go(floats(*([0.1, 0.2, 0.7] * 3)), ints(0, 0, 0, 1, 1, 1, 2, 2, 2))
    first, second, third = returns.view(3, 3)
    assert torch.equal(first, second)
    assert torch.equal(first, third)


def test_the_documented_groups():
    assert call_groups(ints(0, 0, 1), ints(0, 1, 0), ints(0, 0)).tolist() == [0, 1, 0]


def test_groups_do_not_mix():
    """Units 0 and 1 are of group 0, unit 2 of group 1; unit 1 made no call."""
    groups = call_groups(ints(0, 0, 2, 2), ints(0, 1, 0, 1), ints(0, 0, 1))
    assert groups.tolist() == [0, 1, 2, 3]


def test_a_call_that_is_not_trained_keeps_its_place():
    """Unit 0's first call is not trained: its second is compared with unit 1's second."""
    assert call_groups(ints(0, 1, 1), ints(1, 0, 1), ints(0, 0)).tolist() == [1, 0, 1]


def test_no_call_at_all():
    assert returns_to_go(floats(), ints()).tolist() == []
    assert call_groups(ints(), ints(), ints(0)).tolist() == []


@given(st.lists(st.lists(st.integers(-4, 4), max_size=4), max_size=5))
def test_against_a_loop(earned: list[list[int]]):
    rewards = floats(*(reward for calls in earned for reward in calls))
    unit = ints(*(number for number, calls in enumerate(earned) for _ in calls))
    expected = [float(sum(calls[at:])) for calls in earned for at in range(len(calls))]
    assert returns_to_go(rewards, unit).tolist() == expected

"""pass@k is the share of k-subsets that hold a success."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.tracing.pass_at_k import pass_at_k


def test_the_worked_example() -> None:
    assert pass_at_k(attempts=4, successes=1, k=2) == 0.5


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 8))
def test_it_counts_the_subsets_that_hold_a_success(outcomes: list[bool], k: int) -> None:
    k = min(k, len(outcomes))
    subsets = list(combinations(outcomes, k))
    share = sum(any(subset) for subset in subsets) / len(subsets)
    estimate = pass_at_k(attempts=len(outcomes), successes=sum(outcomes), k=k)
    assert estimate == pytest.approx(share)


@pytest.mark.parametrize(
    ("attempts", "successes", "k"), [(2, 1, 3), (2, 1, 0), (0, 0, 1), (2, 3, 1), (2, -1, 1)]
)
def test_impossible_counts_are_refused(attempts: int, successes: int, k: int) -> None:
    with pytest.raises(ValueError, match="got"):
        pass_at_k(attempts=attempts, successes=successes, k=k)

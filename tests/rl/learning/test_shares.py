"""Shares of a batch: each row once, and as much for every rank as can be."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.learning.layout import Row
from astuner_rl.learning.prefix_tree import prefix_tree_tokens
from astuner_rl.learning.shares import balanced_shares


def rows_of(*contexts: tuple[int, ...]) -> list[Row]:
    """Return rows of which the given tokens are fed."""
    return [
        Row(token_ids=(*context, 9), reads=(len(context) - 1,), slots=(slot,))
        for slot, context in enumerate(contexts)
    ]


def slots(shares: list[list[Row]]) -> list[list[int]]:
    return [[row.slots[0] for row in share] for share in shares]


def test_trees_of_equal_size_stay_whole():
    rows = rows_of((1, 1, 1, 2), (1, 1, 1, 3), (4, 4, 4, 5), (4, 4, 4, 6))
    assert slots(balanced_shares(rows, ranks=2, merges=True)) == [[0, 1], [2, 3]]


def test_a_tree_that_is_all_the_work_is_cut_and_its_prompt_fed_twice():
    prompt = (1, 1, 1, 1, 1, 1)
    rows = rows_of(*((*prompt, reply, reply, reply, reply) for reply in (5, 2, 4, 3)))
    shares = balanced_shares(rows, ranks=2, merges=True)
    assert slots(shares) == [[1, 3], [0, 2]]
    assert [prefix_tree_tokens(share) for share in shares] == [14, 14]


def test_rows_that_are_fed_in_full_weigh_as_much():
    rows = rows_of((1, 1, 1, 2), (1, 1, 1, 3), (1, 1, 1, 4), (5, 5, 5, 5))
    assert slots(balanced_shares(rows, ranks=2, merges=True)) == [[0, 1, 2], [3]]
    assert slots(balanced_shares(rows, ranks=2, merges=False)) == [[0, 1], [2, 3]]


def test_more_ranks_than_rows_leave_some_without_any():
    assert slots(balanced_shares(rows_of((1,), (2,)), ranks=3, merges=True)) == [[0], [1], []]
    assert balanced_shares([], ranks=2, merges=True) == [[], []]


CONTEXTS = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1, max_size=7
)


@given(CONTEXTS, st.integers(1, 4), st.booleans())
def test_no_cut_of_the_sorted_rows_is_better(contexts, ranks, merges):
    rows = rows_of(*contexts)
    shares = balanced_shares(rows, ranks=ranks, merges=merges)
    assert len(shares) == ranks
    assert sorted(slot for share in slots(shares) for slot in share) == list(range(len(rows)))
    assert all(share == sorted(share) for share in slots(shares))

    def cost(share: list[Row]) -> int:
        if merges:
            return prefix_tree_tokens(share)
        return sum(len(row.fed) for row in share)

    ordered = sorted(rows, key=lambda row: row.fed)
    count = min(ranks, len(rows))
    best = min(
        max(
            cost(ordered[start:stop]) for start, stop in zip((0, *cuts), (*cuts, None), strict=True)
        )
        for cuts in combinations(range(1, len(rows)), count - 1)
    )
    assert max(cost(share) for share in shares) == best

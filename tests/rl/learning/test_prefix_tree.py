"""The least that rows can be fed, counted without a tree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.learning.layout import Row
from astuner_rl.learning.prefix_tree import prefix_tree_tokens

A, B, C, D, END = 11, 12, 13, 14, 15


def row(*fed: int) -> Row:
    """A row that has to be fed these tokens: the state after the last one is read."""
    return Row(token_ids=(*fed, END), reads=(len(fed) - 1,), slots=(0,))


def test_the_worked_example():
    assert prefix_tree_tokens([row(1, 2, A, B), row(1, 2, A, C), row(1, 2, D)]) == 6
    assert prefix_tree_tokens([]) == 0


def test_ids_above_a_byte_sort_as_numbers():
    """As bytes with the lowest first, 256 would stand between 1 and 2."""
    assert prefix_tree_tokens([row(256, A), row(1, A), row(257, A), row(256, B)]) == 7


@given(st.lists(st.lists(st.integers(0, 70_000), min_size=1, max_size=6), max_size=8))
def test_it_is_the_number_of_different_contexts(contexts: list[list[int]]):
    different = {tuple(fed[:stop]) for fed in contexts for stop in range(1, len(fed) + 1)}
    assert prefix_tree_tokens([row(*fed) for fed in contexts]) == len(different)

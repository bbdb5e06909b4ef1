"""Rows become micro-batches that hold every reading once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.learning.layout import MOST_PADDING, Row, padded_rows


def test_the_documented_example():
    rows = [
        Row(token_ids=tuple(range(length)), reads=(length - 1,), slots=(slot,))
        for slot, length in enumerate([5, 2, 4])
    ]
    first, second = padded_rows(rows, microbatch_tokens=10)
    assert first.input_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 0]]
    assert first.slots.tolist() == [0, 2]
    assert first.reads.tolist() == [4, 8]
    assert first.fed_tokens == 9
    assert second.input_ids.tolist() == [[0, 1]]


def test_a_row_that_brings_too_much_padding_starts_a_micro_batch_of_its_own():
    def row(length: int, slot: int) -> Row:
        return Row(token_ids=(7,) * length, reads=(length - 1,), slots=(slot,))

    long, fitting, short = 2 * MOST_PADDING, MOST_PADDING, MOST_PADDING - 1
    (together,) = padded_rows([row(long, 0), row(fitting, 1)], microbatch_tokens=10**6)
    assert together.input_ids.shape == (2, long)
    apart = padded_rows([row(long, 0), row(short, 1)], microbatch_tokens=10**6)
    assert [tuple(microbatch.input_ids.shape) for microbatch in apart] == [(1, long), (1, short)]


def test_tokens_after_the_last_reading_are_not_fed():
    (only,) = padded_rows(
        [Row(token_ids=(7, 8, 9, 10), reads=(0, 1), slots=(0, 1))], microbatch_tokens=100
    )
    assert only.input_ids.tolist() == [[7, 8]]


@given(
    lengths=st.lists(st.integers(1, 9), max_size=12),
    budget=st.integers(1, 30),
)
def test_every_reading_is_held_once_with_its_token_and_within_the_budget(
    lengths: list[int], budget: int
):
    # Token and slot of a reading are the same number, so a wrong index shows.
    rows = []
    for length in lengths:
        first = sum(len(row.token_ids) for row in rows)
        numbers = tuple(range(first, first + length))
        rows.append(Row(token_ids=numbers, reads=tuple(range(length)), slots=numbers))
    microbatches = padded_rows(rows, microbatch_tokens=budget)
    slots = []
    for microbatch in microbatches:
        assert microbatch.input_ids.numel() <= budget or microbatch.input_ids.shape[0] == 1
        read = microbatch.input_ids.flatten()[microbatch.reads]
        assert read.tolist() == microbatch.slots.tolist()
        slots += microbatch.slots.tolist()
    assert sorted(slots) == list(range(sum(lengths)))
    assert sum(microbatch.fed_tokens for microbatch in microbatches) == sum(lengths)

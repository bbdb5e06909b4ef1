"""What each token weighs in the loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.algos.weights import Aggregation, token_weights

# Unit 0 made calls of 2 and 1 tokens, unit 2 one call of 1 token; unit 1 sampled nothing.
UNIT = torch.tensor([0, 0, 0, 2])
CALL = torch.tensor([0, 0, 1, 3])


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (Aggregation.EPISODE, [1 / 6, 1 / 6, 1 / 6, 1 / 2]),
        (Aggregation.CALL, [1 / 6, 1 / 6, 1 / 3, 1 / 3]),
        (Aggregation.TOKEN, [1 / 4, 1 / 4, 1 / 4, 1 / 4]),
        (Aggregation.CONSTANT, [1 / 20, 1 / 20, 1 / 20, 1 / 20]),
    ],
)
def test_each_mean_by_hand(aggregation: Aggregation, expected: list[float]):
    weights = token_weights(UNIT, CALL, aggregation=aggregation, constant=10)
    assert weights.tolist() == pytest.approx(expected)


def test_no_tokens_have_no_weights():
    empty = torch.zeros(0, dtype=torch.int64)
    assert token_weights(empty, empty, aggregation=Aggregation.EPISODE).shape == (0,)


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=5))
def test_units_calls_or_tokens_weigh_the_same(call_lengths: list[list[int]]):
    unit = torch.tensor(
        [u for u, calls in enumerate(call_lengths) for n in calls for _ in range(n)]
    )
    flat = [length for calls in call_lengths for length in calls]
    call = torch.tensor([c for c, length in enumerate(flat) for _ in range(length)])
    by_episode = token_weights(unit, call, aggregation=Aggregation.EPISODE)
    by_call = token_weights(unit, call, aggregation=Aggregation.CALL)
    for u in range(len(call_lengths)):
        assert by_episode[unit == u].sum().item() == pytest.approx(1 / len(call_lengths))
    for c in range(len(flat)):
        assert by_call[call == c].sum().item() == pytest.approx(1 / len(flat))

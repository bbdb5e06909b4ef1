"""The clipped surrogate against scalar arithmetic and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.algos.surrogate import clipped_surrogate_loss, is_clipped


def floats(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def loss_by_scalars(
    logprobs: list[float], old: list[float], advantages: list[float], weights: list[float]
) -> float:
    total = 0.0
    for lp, o, a, w in zip(logprobs, old, advantages, weights, strict=True):
        ratio = math.exp(lp - o)
        total -= w * min(ratio * a, min(max(ratio, 0.9), 1.3) * a)
    return total


NUMBERS = st.floats(-2, 2)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_agrees_with_scalar_arithmetic(rows: list[tuple[float, float, float, float]]):
    columns = [list(column) for column in zip(*rows, strict=True)]
    loss = clipped_surrogate_loss(*[floats(*c) for c in columns], clip_low=0.1, clip_high=0.3)
    assert loss.item() == pytest.approx(loss_by_scalars(*columns), abs=1e-9)


def test_gradient_at_ratio_one_is_minus_weight_times_advantage():
    logprobs = floats(-1.0, -2.0).requires_grad_()
    clipped_surrogate_loss(
        logprobs,
        floats(-1.0, -2.0),
        floats(3.0, -1.0),
        floats(0.25, 0.75),
        clip_low=0.2,
        clip_high=0.2,
    ).backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-0.75, 0.75])


def test_only_what_moved_too_far_in_its_advantage_s_direction_is_clipped():
    logprobs = floats(*[math.log(ratio) for ratio in (1.5, 1.5, 0.5, 0.5, 1.1)]).requires_grad_()
    advantages = floats(1, -1, 1, -1, 1)
    zeros = torch.zeros(5, dtype=torch.float64)
    clipped = is_clipped(logprobs, zeros, advantages, clip_low=0.2, clip_high=0.2)
    assert clipped.tolist() == [True, False, False, True, False]
    clipped_surrogate_loss(
        logprobs, zeros, advantages, torch.ones_like(zeros), clip_low=0.2, clip_high=0.2
    ).backward()
    assert logprobs.grad is not None
    assert (logprobs.grad == 0).tolist() == clipped.tolist()


def test_a_ratio_beyond_all_bounds_leaves_gradients_finite():
    logprobs = torch.tensor([0.0, 0.0], requires_grad=True)
    clipped_surrogate_loss(
        logprobs,
        torch.tensor([-500.0, -500.0]),
        torch.tensor([1.0, 0.0]),
        torch.tensor([0.5, 0.5]),
        clip_low=0.2,
        clip_high=0.2,
    ).backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [0.0, 0.0]


def test_shapes_that_would_broadcast_are_refused():
    two = floats(1, 2)
    with pytest.raises(ValueError, match="one shape"):
        clipped_surrogate_loss(two, two, two[:, None], two, clip_low=0.2, clip_high=0.2)

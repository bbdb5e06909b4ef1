"""The critic's loss and explained variance."""

from __future__ import annotations

import math

import pytest
import torch

from astuner_rl.algos.value import clipped_value_loss, explained_variance


def floats(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_without_a_clip_it_is_half_the_weighted_squared_error():
    loss = clipped_value_loss(
        floats(1, 2), floats(0, 0), floats(3, 2), floats(0.25, 0.75), clip=math.inf
    )
    assert loss.item() == pytest.approx(0.25 * 4 / 2)


def test_a_value_that_moved_past_the_clip_towards_its_return_has_no_gradient():
    # Towards the return by more than 0.2; away from it; towards it by less.
    values = floats(0.5, -0.5, 0.1).requires_grad_()
    clipped_value_loss(
        values, floats(0, 0, 0), floats(1, 1, 1), floats(1, 1, 1), clip=0.2
    ).backward()
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([0.0, -1.5, -0.9])


def test_explained_variance_of_perfect_constant_and_worse_critics():
    returns = floats(0, 1, 2)
    weights = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert explained_variance(returns, returns, weights).item() == 1.0
    assert explained_variance(floats(5, 5, 5), returns, weights).item() == pytest.approx(0.0)
    assert explained_variance(floats(2, 1, 0), returns, weights).item() == pytest.approx(-3.0)


def test_equal_returns_have_no_variance_to_explain():
    weights = torch.full((2,), 0.5, dtype=torch.float64)
    assert explained_variance(floats(0, 1), floats(1, 1), weights).item() == 0.0

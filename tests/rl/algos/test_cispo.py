"""CISPO against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from astuner_rl.algos.cispo import cispo_loss


def test_every_token_keeps_a_gradient_of_bounded_weight():
    """Ratios 4, 1 and 1/4 with bounds 0.5 and 2: weights 2, 1 and 0.5."""
    old = torch.tensor([-2.0, -2.0, -2.0], dtype=torch.float64)
    logprobs = (old + torch.tensor([math.log(4), 0.0, -math.log(4)])).requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 3.0], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    loss = cispo_loss(logprobs, old, advantages, weights, clip_low=0.5, clip_high=1.0)
    loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-1.0, 0.25, -0.375])
    by_hand = -(
        0.5 * 2 * 1 * (-2 + math.log(4)) + 0.25 * -1 * -2 + 0.25 * 0.5 * 3 * (-2 - math.log(4))
    )
    assert loss.item() == pytest.approx(by_hand)


def test_shapes_that_would_broadcast_are_refused():
    two = torch.zeros(2)
    with pytest.raises(ValueError, match="must have one shape"):
        cispo_loss(two, two, two[:, None], two, clip_low=0.2, clip_high=0.2)

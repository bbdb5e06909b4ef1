"""Whitened advantages."""

from __future__ import annotations

import pytest
import torch

from astuner_rl.algos.whitening import whiten


def test_mean_and_variance_under_the_weights():
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    white = whiten(torch.tensor([1.0, 2.0, 7.0], dtype=torch.float64), weights)
    assert (weights * white).sum().item() == pytest.approx(0, abs=1e-12)
    assert (weights * white.square()).sum().item() == pytest.approx(1, abs=1e-6)


def test_equal_advantages_become_zero():
    weights = torch.full((4,), 0.25, dtype=torch.float64)
    assert whiten(torch.full((4,), 3.0, dtype=torch.float64), weights).tolist() == [0.0] * 4


def test_equal_advantages_become_zero_whatever_the_rounding_of_their_mean():
    weights = torch.full((49,), 1 / 49, dtype=torch.float64)
    advantages = torch.full((49,), 0.7, dtype=torch.float64)
    assert (weights * advantages).sum().item() != 0.7
    assert whiten(advantages, weights).tolist() == [0.0] * 49

"""Bounded importance weights, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from astuner_rl.algos.importance import Importance, importance_weights

RATIOS = [0.2, 1.0, 4.0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Importance.NONE, [1.0, 1.0, 1.0]),
        (Importance.TRUNCATE, [0.2, 1.0, 2.0]),
        (Importance.MASK, [0.0, 1.0, 0.0]),
    ],
)
def test_the_documented_example(kind: Importance, expected: list[float]):
    sampler = torch.full((3,), -3.0, dtype=torch.float64)
    logprobs = sampler + torch.tensor([math.log(ratio) for ratio in RATIOS])
    weights = importance_weights(logprobs, sampler, kind=kind, bound=2.0)
    assert weights.tolist() == pytest.approx(expected)

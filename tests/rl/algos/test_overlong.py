"""DAPO's soft punishment of long replies, by hand."""

from __future__ import annotations

import torch

from astuner_rl.algos.overlong import overlong_penalty

LENGTHS = torch.tensor([0, 6, 7, 8, 10])
LIMITS = torch.full((5,), 10)


def test_the_documented_example():
    assert overlong_penalty(LENGTHS, LIMITS, margin=4).tolist() == [0.0, 0.0, -0.25, -0.5, -1.0]


def test_without_a_margin_nothing_is_punished():
    assert overlong_penalty(LENGTHS, LIMITS, margin=0).tolist() == [0.0] * 5

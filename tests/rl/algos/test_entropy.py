"""Entropy of categorical distributions."""

from __future__ import annotations

import math

import pytest
import torch

from astuner_rl.algos.entropy import categorical_entropy, entropy_bonus


def test_entropy_by_hand_and_by_torch():
    log_distribution = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]]).log_softmax(-1)
    entropies = categorical_entropy(log_distribution)
    assert entropies[0].item() == pytest.approx(math.log(4))
    oracle = torch.distributions.Categorical(logits=log_distribution).entropy()
    assert torch.allclose(entropies, oracle)


def test_a_token_that_cannot_be_drawn_adds_nothing():
    log_distribution = torch.tensor([[0.5, 0.5, 0.0]]).log()
    assert categorical_entropy(log_distribution).item() == pytest.approx(math.log(2))


def test_the_bonus_is_the_weighted_sum():
    assert entropy_bonus(torch.tensor([1.0, 3.0]), torch.tensor([0.25, 0.75])).item() == 2.5

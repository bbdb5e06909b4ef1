"""The leave-one-out baseline against scalar arithmetic."""

from __future__ import annotations

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.algos.leave_one_out import leave_one_out_advantages


def test_the_documented_example():
    advantages = leave_one_out_advantages(
        torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), torch.tensor([0, 0, 0])
    )
    assert advantages.tolist() == pytest.approx([1.0, -0.5, -0.5])


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=5), min_size=1, max_size=4))
def test_each_reward_is_compared_with_the_mean_of_the_others(groups: list[list[float]]):
    rewards = torch.tensor([reward for group in groups for reward in group], dtype=torch.float64)
    numbers = torch.tensor([number for number, group in enumerate(groups) for _ in group])
    expected = [
        reward - statistics.fmean(group[:place] + group[place + 1 :]) if len(group) > 1 else 0.0
        for group in groups
        for place, reward in enumerate(group)
    ]
    assert leave_one_out_advantages(rewards, numbers).tolist() == pytest.approx(expected, abs=1e-9)

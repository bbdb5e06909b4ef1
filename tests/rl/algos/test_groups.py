"""Group-relative advantages against hand-computed and independent figures."""

from __future__ import annotations

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.algos.groups import group_advantages


def floats(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_rewards_are_centred_within_their_group():
    advantages = group_advantages(
        floats(1, 5, 0, 0, 7, 1), torch.tensor([0, 1, 0, 0, 1, 0]), scale_by_std=False
    )
    assert advantages.tolist() == [0.5, -1.0, -0.5, -0.5, 1.0, 0.5]


def test_scaling_divides_by_the_population_standard_deviation():
    advantages = group_advantages(
        floats(1, 0, 0, 1), torch.tensor([0, 0, 0, 0]), scale_by_std=True, eps=0.5
    )
    assert advantages.tolist() == [0.5, -0.5, -0.5, 0.5]


@pytest.mark.parametrize("scale_by_std", [True, False])
@pytest.mark.parametrize("reward", [0.1, 1 / 3, -7.3, 1e9])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_equal_rewards_give_exactly_zero(reward: float, size: int, scale_by_std: bool):
    advantages = group_advantages(
        floats(*[reward] * size), torch.zeros(size, dtype=torch.int64), scale_by_std=scale_by_std
    )
    assert advantages.tolist() == [0.0] * size


def test_no_episodes_give_no_advantages():
    empty = torch.zeros(0, dtype=torch.int64)
    assert group_advantages(floats(), empty, scale_by_std=True).shape == (0,)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(-10, 10, allow_subnormal=False)),
        min_size=1,
        max_size=12,
    )
)
def test_agrees_with_the_statistics_module(pairs: list[tuple[int, float]]):
    group = torch.tensor([number for number, _ in pairs])
    rewards = floats(*[reward for _, reward in pairs])
    advantages = group_advantages(rewards, group, scale_by_std=True, eps=1e-3)
    for (number, reward), advantage in zip(pairs, advantages.tolist(), strict=True):
        siblings = [other for mine, other in pairs if mine == number]
        expected = (reward - statistics.fmean(siblings)) / (statistics.pstdev(siblings) + 1e-3)
        assert advantage == pytest.approx(expected, abs=1e-9)


def test_a_group_number_for_each_token_is_refused():
    with pytest.raises(ValueError, match="one shape"):
        group_advantages(floats(1, 0), torch.tensor([[0], [0]]), scale_by_std=False)

"""Generalised advantage estimation against its definition as a sum."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.algos.gae import gae

FLOATS = st.floats(-3, 3)


def gae_by_definition(
    values: list[float], rewards: list[float], bootstrap: float, discount: float, decay: float
) -> list[float]:
    """Equation 16 of arXiv:1506.02438, term by term."""
    following = [*values, bootstrap][1:]
    deltas = [r + discount * v1 - v for v, r, v1 in zip(values, rewards, following, strict=True)]
    return [
        sum((discount * decay) ** (k - t) * deltas[k] for k in range(t, len(deltas)))
        for t in range(len(deltas))
    ]


def floats(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_the_documented_example():
    advantages = gae(
        floats([0.5, 0.4]),
        floats([0.0, 1.0]),
        torch.tensor([0, 0]),
        floats([0.0]),
        discount=1.0,
        trace_decay=1.0,
    )
    assert advantages.tolist() == pytest.approx([0.5, 0.6])


@given(
    episodes=st.lists(
        st.tuples(st.lists(st.tuples(FLOATS, FLOATS), max_size=6), FLOATS), min_size=1, max_size=4
    ),
    discount=st.floats(0, 1),
    trace_decay=st.floats(0, 1),
)
def test_agrees_with_the_definition_for_every_agent_episode(episodes, discount, trace_decay):
    values = [value for steps, _ in episodes for value, _ in steps]
    rewards = [reward for steps, _ in episodes for _, reward in steps]
    unit = [u for u, (steps, _) in enumerate(episodes) for _ in steps]
    advantages = gae(
        floats(values),
        floats(rewards),
        torch.tensor(unit, dtype=torch.int64),
        floats([bootstrap for _, bootstrap in episodes]),
        discount=discount,
        trace_decay=trace_decay,
    )
    expected = []
    for steps, bootstrap in episodes:
        expected += gae_by_definition(
            [value for value, _ in steps],
            [reward for _, reward in steps],
            bootstrap,
            discount,
            trace_decay,
        )
    assert advantages.tolist() == pytest.approx(expected, abs=1e-9)


def test_truncation_is_worth_its_bootstrap_and_termination_nothing():
    advantages = gae(
        floats([0.0, 0.0]),
        floats([0.0, 0.0]),
        torch.tensor([0, 1]),
        floats([0.0, 0.8]),
        discount=1.0,
        trace_decay=1.0,
    )
    assert advantages.tolist() == [0.0, 0.8]

"""Draws are functions of (key, position) and of nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.samplers.draws import draw_seed, uniform, uniforms
from astuner_rl.types import DrawKey, EpisodeKey

KEY = DrawKey(7, EpisodeKey("train", 3, 1, 2), "alice", 0)
EPISODE = KEY.episode
SPLITMIX64_OF_0 = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_uniform_is_the_published_splitmix64_stream() -> None:
    assert [int(uniform(0, i) * 2**53) for i in range(3)] == [x >> 11 for x in SPLITMIX64_OF_0]


def test_a_seed_is_the_same_in_every_process() -> None:
    assert draw_seed(KEY) == 0x4DCED8D7930C0CDA


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(KEY, seed=8),
        dataclasses.replace(KEY, episode=dataclasses.replace(EPISODE, phase="eval/held-out")),
        dataclasses.replace(KEY, episode=dataclasses.replace(EPISODE, step=4)),
        dataclasses.replace(KEY, episode=dataclasses.replace(EPISODE, task=2)),
        dataclasses.replace(KEY, episode=dataclasses.replace(EPISODE, sample=3)),
        dataclasses.replace(KEY, agent="bob"),
        dataclasses.replace(KEY, call=1),
    ],
)
def test_every_field_of_the_key_matters(other: DrawKey) -> None:
    assert draw_seed(other) != draw_seed(KEY)


def test_neighbouring_fields_do_not_run_together() -> None:
    one = dataclasses.replace(KEY, agent="a", call=11)
    other = dataclasses.replace(KEY, agent="a1", call=1)
    assert draw_seed(one) != draw_seed(other)


SEEDS = st.integers(0, 2**64 - 1)
POSITIONS = st.integers(0, 100_000)


@given(st.lists(st.tuples(SEEDS, POSITIONS), min_size=1, max_size=20))
def test_many_draws_at_once_are_the_single_draws_bit_for_bit(pairs: list[tuple[int, int]]) -> None:
    seeds = np.array([seed for seed, _ in pairs], np.uint64)
    positions = np.array([position for _, position in pairs], np.int64)
    assert uniforms(seeds, positions).tolist() == [uniform(*pair) for pair in pairs]


@given(SEEDS, POSITIONS)
def test_draws_lie_in_the_half_open_unit_interval(seed: int, position: int) -> None:
    assert 0.0 <= uniform(seed, position) < 1.0


def test_draws_of_neighbouring_positions_are_uniform() -> None:
    draws = uniforms(np.full(20_000, 5, np.uint64), np.arange(20_000))
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 43.8  # 99.9 % quantile, 19 degrees of freedom

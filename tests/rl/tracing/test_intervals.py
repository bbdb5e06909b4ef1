"""Intervals cover what they promise, and repeat."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.tracing.intervals import Interval, bootstrap_interval, wilson_interval


def test_wilson_against_published_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263 and 0 of 20.
    interval = wilson_interval(successes=81, trials=263)
    assert interval.mean == 81 / 263
    assert interval.low == pytest.approx(0.2553, abs=5e-5)
    assert interval.high == pytest.approx(0.3662, abs=5e-5)
    assert wilson_interval(successes=0, trials=20) == Interval(
        0.0, 0.0, pytest.approx(0.1611, abs=5e-5)
    )


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_solve_the_score_equation(case: tuple[int, int]) -> None:
    successes, trials = case
    interval = wilson_interval(successes=successes, trials=trials)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    for bound in {interval.low, interval.high} - {0.0, 1.0}:
        score = abs(interval.mean - bound) / math.sqrt(bound * (1 - bound) / trials)
        assert score == pytest.approx(1.959964, rel=1e-5)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="0 <= successes <= trials"):
        wilson_interval(successes=successes, trials=trials)


def test_the_bootstrap_agrees_with_the_normal_interval_of_many_values() -> None:
    draw = random.Random(0)
    values = [draw.gauss(3.0, 2.0) for _ in range(400)]
    mean = sum(values) / 400
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / 399 / 400)
    interval = bootstrap_interval(values, seed=1)
    assert interval.mean == pytest.approx(mean)
    assert interval.low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)


def test_the_bootstrap_covers_the_mean_about_95_times_in_100() -> None:
    draw = random.Random(0)
    covered = 0
    for seed in range(200):
        values = [draw.random() for _ in range(40)]
        interval = bootstrap_interval(values, seed=seed, resamples=400)
        covered += interval.low <= 0.5 <= interval.high
    assert 180 <= covered <= 198


def test_the_bootstrap_repeats_for_a_seed_only() -> None:
    values = [0.0, 1.0, 1.0, 3.0, 7.0, 2.0, 5.5]
    first = bootstrap_interval(values, seed=1, resamples=50)
    assert bootstrap_interval(values, seed=1, resamples=50) == first
    assert bootstrap_interval(values, seed=2, resamples=50) != first


def test_equal_values_have_no_width() -> None:
    assert bootstrap_interval([0.5] * 8, seed=0, resamples=20) == Interval(0.5, 0.5, 0.5)


def test_the_bootstrap_refuses_no_values() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([], seed=0)


def test_an_interval_is_three_metrics() -> None:
    assert Interval(0.5, 0.4, 0.6).metrics("eval/accuracy") == {
        "eval/accuracy": 0.5,
        "eval/accuracy/low": 0.4,
        "eval/accuracy/high": 0.6,
    }

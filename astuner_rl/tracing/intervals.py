"""Means with a 95 % interval: Wilson for shares, bootstrap for everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

Z_95: Final = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    mean: float
    low: float
    high: float

    def metrics(self, name: str) -> dict[str, float]:
        """Return the figures ``name``, ``name/low`` and ``name/high``."""
        return {name: self.mean, f"{name}/low": self.low, f"{name}/high": self.high}


def wilson_interval(*, successes: int, trials: int) -> Interval:
    """Return a share with its Wilson score interval (Wilson 1927).

    With ``p = successes / trials`` and ``n = trials``::

        (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n)

    Unlike ``p ± z √(p(1 - p)/n)`` it stays within [0, 1] and keeps a width at 0 and 1: no success
    in 10 trials gives [0, 0.278].

    Raises:
        ValueError: There are no trials, or not 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(
            f"a share needs 0 <= successes <= trials and trials >= 1, got {successes} of {trials}"
        )
    share = successes / trials
    weight = Z_95**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    spread = share * (1 - share) / trials + Z_95**2 / (4 * trials**2)
    half = Z_95 * math.sqrt(spread) / (1 + weight)
    # The bounds touch 0 and 1 exactly, which floating point only nearly does.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(share, low, high)


def bootstrap_interval(values: Sequence[float], *, seed: int, resamples: int = 10_000) -> Interval:
    """Return a mean with its percentile bootstrap interval (Efron 1979).

    The draws depend on ``seed`` alone, so the same values give the same interval in every process.
    To compare two policies over the same tasks, pass the differences by task: the interval is then
    the paired one. Where episodes share a task, pass one mean a task.

    Args:
        values: [N] independent observations.
        seed: Names the draws.
        resamples: How often N values are drawn with replacement.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("a mean needs at least one value, got none; evaluate at least one task")
    sample = np.asarray(values, dtype=np.float64)
    generator = np.random.Generator(np.random.PCG64([seed, len(values)]))
    means = np.empty(resamples)
    for index in range(resamples):  # one row at a time: [resamples, N] would not fit for large N
        means[index] = sample[generator.integers(len(values), size=len(values))].mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(sample.mean()), float(low), float(high))

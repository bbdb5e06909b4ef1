"""How far a rubric agrees with people: accuracy and Cohen's kappa, or pairs and Kendall's tau."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from astuner_gym.rubrics.examples import Example, LabelKind

_RESAMPLES: Final = 2000
Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, a percentile bootstrap over the lines of the file."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement on one set of examples."""

    measure: str
    """What ``beyond_chance`` is: ``kappa`` or ``tau``."""
    accuracy: Estimate
    """Share of the examples, or of the pairs of unlike labels, on which the rubric is right."""
    beyond_chance: Estimate
    """0 for agreement by chance, 1 for agreement on everything."""


def agreement(
    rewards: Sequence[float],
    examples: Sequence[Example],
    *,
    kind: LabelKind,
    success_from: float,
    seed: int,
) -> Agreement:
    """Measure how rewards agree with the labels of the same examples.

    Args:
        rewards: [N] what a rubric gives.
        examples: [N] what people say.
        kind: Of the labels.
        success_from: Least reward of a success; for BINARY.
        seed: Names the draws of the bootstrap.
    """
    given, labels, units = _arrays(rewards, examples)
    drawn = list(_resampled(units, seed=seed))
    if kind is LabelKind.BINARY:
        said = (given >= success_from).astype(np.float64)
        return Agreement(
            measure="kappa",
            accuracy=_estimate(lambda rows, _: _accuracy(said[rows], labels[rows]), drawn),
            beyond_chance=_estimate(lambda rows, _: cohens_kappa(said[rows], labels[rows]), drawn),
        )

    def groups(draws: Rows) -> Floats:
        # A list that is drawn twice is two lists: its answers are compared within each.
        return (draws if kind is LabelKind.RANKED else np.zeros_like(draws)).astype(np.float64)

    def pairs(rows: Rows, draws: Rows) -> float:
        return _ordered_share(given[rows], labels[rows], groups(draws))

    def tau(rows: Rows, draws: Rows) -> float:
        return kendalls_tau(given[rows], labels[rows], groups(draws))

    return Agreement(
        measure="tau", accuracy=_estimate(pairs, drawn), beyond_chance=_estimate(tau, drawn)
    )


def beyond_chance(
    rewards: Sequence[float],
    examples: Sequence[Example],
    *,
    kind: LabelKind,
    success_from: float,
) -> float:
    """Return kappa or tau alone."""
    given, labels, units = _arrays(rewards, examples)
    if kind is LabelKind.BINARY:
        return cohens_kappa((given >= success_from).astype(np.float64), labels)
    return kendalls_tau(given, labels, units if kind is LabelKind.RANKED else np.zeros_like(units))


def cohens_kappa(said: Floats, labels: Floats) -> float:
    """Return Cohen's kappa of two lists of 0 and 1 (Cohen 1960).

    With ``p`` the share of agreement and ``e`` what chance gives for these shares of 1::

        kappa = (p - e) / (1 - e);  0 where both lists are all alike
    """
    observed = _accuracy(said, labels)
    a, b = float(said.mean()), float(labels.mean())
    by_chance = a * b + (1 - a) * (1 - b)
    return 0.0 if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def kendalls_tau(given: Floats, labels: Floats, groups: Floats) -> float:
    """Return Kendall's tau-b over the pairs within groups (Kendall 1945).

    With ``c`` pairs ordered alike, ``d`` ordered the other way round, and ``n`` and ``m`` pairs
    that differ in the first and in the second list::

        tau = (c - d) / sqrt(n m);  0 where a list has no two unlike values
    """
    by_given, by_label = _orders(given, labels, groups)
    unlike = math.sqrt(float(np.abs(by_given).sum()) * float(np.abs(by_label).sum()))
    return float((by_given * by_label).sum()) / unlike if unlike else 0.0


def _ordered_share(given: Floats, labels: Floats, groups: Floats) -> float:
    """Return the share of the pairs of unlike labels that are ordered right, ties half."""
    by_given, by_label = _orders(given, labels, groups)
    unlike = by_label != 0
    if not unlike.any():
        return math.nan
    return float((1 + by_given[unlike] * by_label[unlike]).mean()) / 2


def _orders(given: Floats, labels: Floats, groups: Floats) -> tuple[Floats, Floats]:
    """Return the signs of all differences within groups: [pairs], [pairs]."""
    first, second = np.triu_indices(len(given), k=1)
    within = groups[first] == groups[second]
    first, second = first[within], second[within]
    return np.sign(given[first] - given[second]), np.sign(labels[first] - labels[second])


def _accuracy(said: Floats, labels: Floats) -> float:
    return float((said == labels).mean())


def _arrays(rewards: Sequence[float], examples: Sequence[Example]) -> tuple[Floats, Floats, Floats]:
    # Sums of weights in another order differ in the last bits: those are ties.
    given: Floats = np.asarray(rewards, dtype=np.float64).round(9)
    labels = np.asarray([each.label for each in examples], dtype=np.float64)
    units = np.asarray([each.unit for each in examples], dtype=np.float64)
    return given, labels, units


def _resampled(units: Floats, *, seed: int) -> list[tuple[Rows, Rows]]:
    """Return the rows of all units, and then those of units drawn with replacement, many times.

    Beside each row there is the number of the draw that it came with.
    """
    generator = np.random.Generator(np.random.PCG64([seed, len(units)]))
    rows_of = [np.flatnonzero(units == unit) for unit in np.unique(units)]
    every = np.arange(len(rows_of))
    draws = [every, *(generator.choice(every, size=len(every)) for _ in range(_RESAMPLES))]
    return [
        (
            np.concatenate([rows_of[index] for index in chosen]),
            np.repeat(every, [len(rows_of[index]) for index in chosen]),
        )
        for chosen in draws
    ]


def _estimate(
    figure: Callable[[Rows, Rows], float], drawn: Sequence[tuple[Rows, Rows]]
) -> Estimate:
    value, *resampled = [figure(rows, draws) for rows, draws in drawn]
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Estimate(value, float(low), float(high))

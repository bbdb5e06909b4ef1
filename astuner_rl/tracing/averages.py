"""Means of figures over episodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import fsum


def mean_by_name(figures: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over those that have it.

    The sum is exact before it is rounded, so the order does not matter: three mappings
    ``{"a": 1}, {"a": 2, "b": 5}, {}`` give ``{"a": 1.5, "b": 5.0}``.
    """
    values: defaultdict[str, list[float]] = defaultdict(list)
    for mapping in figures:
        for name, value in mapping.items():
            values[name].append(value)
    return {name: fsum(found) / len(found) for name, found in sorted(values.items())}

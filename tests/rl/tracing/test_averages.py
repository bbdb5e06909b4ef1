"""Means over the episodes that have a figure."""

from __future__ import annotations

from astuner_rl.tracing.averages import mean_by_name


def test_a_figure_is_averaged_over_those_that_have_it() -> None:
    assert mean_by_name([{"a": 1}, {"a": 2, "b": 5}, {}]) == {"a": 1.5, "b": 5.0}
    assert mean_by_name([]) == {}


def test_the_order_does_not_matter() -> None:
    values = [1e16, 1.0, -1e16, 1.0]
    forwards = mean_by_name({"a": value} for value in values)
    backwards = mean_by_name({"a": value} for value in reversed(values))
    assert forwards == backwards == {"a": 0.5}

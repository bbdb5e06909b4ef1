"""Curves: what is recorded is drawn where it belongs, with its gaps and bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.tracing.curves import FRAME, Curve, Point, curves_of, draw, number
from astuner_rl.tracing.metrics import MetricsLine


def test_bounds_join_the_figure_they_belong_to() -> None:
    values = {"eval/accuracy": 0.5, "eval/accuracy/low": 0.4, "eval/accuracy/high": 0.6}
    assert curves_of([MetricsLine(3, values)]) == [
        Curve("eval/accuracy", ((Point(3, 0.5, 0.4, 0.6),),))
    ]


def test_a_figure_that_only_ends_like_a_bound_is_drawn() -> None:
    assert [curve.name for curve in curves_of([MetricsLine(0, {"sugar/low": 1.0})])] == [
        "sugar/low"
    ]


def test_a_step_that_was_not_finite_leaves_a_gap() -> None:
    figures = [1.0, 2.0, None, 3.0]
    lines = [MetricsLine(step, {"a": value}) for step, value in enumerate(figures)]
    (curve,) = curves_of(lines)
    assert curve.runs == ((Point(0, 1.0), Point(1, 2.0)), (Point(3, 3.0),))
    drawing = draw(curve)
    assert len(drawing.lines) == 1
    assert len(drawing.dots) == 1


def test_steps_between_evaluations_leave_no_gap() -> None:
    lines = [MetricsLine(0, {"a": 1}), MetricsLine(1, {}), MetricsLine(2, {"a": 2})]
    (curve,) = curves_of(lines)
    assert curve.runs == ((Point(0, 1.0), Point(2, 2.0)),)


def test_flags_and_figures_never_finite_are_no_curves() -> None:
    assert curves_of([MetricsLine(0, {"run/exact": True, "a": None})]) == []


def test_the_ends_of_a_curve_touch_the_frame() -> None:
    drawing = draw(Curve("a", ((Point(0, 1.0), Point(10, 3.0)),)))
    assert drawing.lines == (
        f"{FRAME.left:.1f},{FRAME.bottom:.1f} {FRAME.right:.1f},{FRAME.top:.1f}",
    )
    assert drawing.latest == "3"
    assert [reading.label for reading in drawing.readings] == ["step 0: 1", "step 10: 3"]


def test_a_band_runs_along_the_upper_bound_and_back_along_the_lower_one() -> None:
    drawing = draw(Curve("a", ((Point(0, 1.0, 0.0, 2.0), Point(1, 1.0, 0.0, 2.0)),)))
    left, right = f"{FRAME.left:.1f}", f"{FRAME.right:.1f}"
    top, bottom = f"{FRAME.top:.1f}", f"{FRAME.bottom:.1f}"
    assert drawing.bands == (f"{left},{top} {right},{top} {right},{bottom} {left},{bottom}",)
    assert drawing.readings[0].label == "step 0: 1 [0, 2]"


def test_one_step_is_a_dot_in_the_middle() -> None:
    drawing = draw(Curve("a", ((Point(7, 2.0),),)))
    middle = ((FRAME.left + FRAME.right) / 2, (FRAME.top + FRAME.bottom) / 2)
    assert drawing.dots == (pytest.approx(middle),)
    assert [tick.label for tick in drawing.x_ticks] == ["7"]


def test_many_steps_are_all_drawn_and_the_last_can_be_read() -> None:
    drawing = draw(Curve("a", (tuple(Point(step, step % 7) for step in range(500)),)))
    assert len(drawing.lines[0].split()) == 500
    assert len(drawing.readings) <= 120
    assert drawing.readings[-1].label == "step 499: 2"


steps = st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True).map(sorted)
finite = st.floats(-1e300, 1e300, allow_subnormal=False)


@given(steps, st.data())
def test_whatever_is_recorded_is_drawn_inside_the_frame(
    recorded: list[int], data: st.DataObject
) -> None:
    points = tuple(Point(step, data.draw(finite)) for step in recorded)
    drawing = draw(Curve("a", (points,)))
    for reading in drawing.readings:
        assert FRAME.left <= reading.x <= FRAME.right
        assert FRAME.top <= reading.y <= FRAME.bottom
    for tick in drawing.y_ticks:
        assert FRAME.top - 0.1 <= tick.at <= FRAME.bottom + 0.1
    assert not any(math.isnan(reading.y) for reading in drawing.readings)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (1 / 3, "0.3333"), (9999, "9999"), (45120, "45.12k"), (4.5e6, "4.5M"),
     (-2e9, "-2G"), (5.24e-9, "5.24e-09"), (0, "0")],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text

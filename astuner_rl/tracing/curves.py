"""Curves over steps, laid out for an SVG: numbers in, coordinates and labels out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from astuner_rl.tracing.metrics import MetricsLine

_MAX_READINGS: Final = 120
"""At most about so many points of a curve can be pointed at; all of them are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Size of every drawing, in SVG units, and where the curve lies in it."""

    width: int = 340
    height: int = 170
    left: int = 54
    right: int = 328
    top: int = 10
    bottom: int = 148


FRAME: Final = Frame()


@dataclass(frozen=True, slots=True)
class Point:
    """A figure of one step, with the bounds of its interval where it has one."""

    step: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """One figure over the steps of a run."""

    name: str
    runs: tuple[tuple[Point, ...], ...]
    """Stretches without a gap; a step whose figure was not finite leaves one."""

    @property
    def points(self) -> tuple[Point, ...]:
        """All points in order."""
        return tuple(point for run in self.runs for point in run)


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A point that can be pointed at."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A curve in the coordinates of its SVG; see :data:`FRAME`."""

    name: str
    latest: str
    """The last value, in words."""
    lines: tuple[str, ...]
    """``points`` of a polyline for each stretch of two points or more."""
    bands: tuple[str, ...]
    """``points`` of a polygon between the interval's bounds, likewise."""
    dots: tuple[tuple[float, float], ...]
    """Points that stand alone, where no line would show."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    readings: tuple[Reading, ...]


def curves_of(lines: Sequence[MetricsLine]) -> list[Curve]:
    """Return a curve for every figure but flags; ``<name>/low`` and ``/high`` join ``<name>``."""
    names = dict.fromkeys(name for line in lines for name in line.values)
    bounds = {name + end for name in names for end in ("/low", "/high")}
    curves = (_curve(name, lines) for name in names if name not in bounds)
    return [curve for curve in curves if curve.runs]


def draw(curve: Curve) -> Drawing:
    """Lay a curve out; it must hold a point."""
    points = curve.points
    values = [value for point in points for value in (point.value, point.low, point.high)]
    known = [value for value in values if value is not None]
    steps = _Axis(points[0].step, points[-1].step, FRAME.left, FRAME.right)
    scale = _Axis(min(known), max(known), FRAME.bottom, FRAME.top)
    stride = math.ceil(len(points) / _MAX_READINGS)
    readings = points[::-1][::stride][::-1]  # counted from the end: the last one is read most
    return Drawing(
        name=curve.name,
        latest=number(points[-1].value),
        lines=tuple(
            _path((steps(point.step), scale(point.value)) for point in run)
            for run in curve.runs
            if len(run) > 1
        ),
        bands=tuple(
            _band(run, steps, scale)
            for run in curve.runs
            if len(run) > 1 and run[0].low is not None
        ),
        dots=tuple(
            (round(steps(run[0].step), 1), round(scale(run[0].value), 1))
            for run in curve.runs
            if len(run) == 1
        ),
        x_ticks=tuple(
            Tick(round(steps(step), 1), f"{step:,.0f}")
            for step in steps.ticks()
            if step % 1 == 0 and points[0].step <= step <= points[-1].step
        ),
        y_ticks=tuple(Tick(round(scale(value), 1), number(value)) for value in scale.ticks()),
        readings=tuple(
            Reading(round(steps(point.step), 1), round(scale(point.value), 1), _label(point))
            for point in readings
        ),
    )


def number(value: float) -> str:
    """Return a number as a reader wants it: four digits, thousands as k, M, G."""
    for least, size, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


class _Axis:
    """Maps values to coordinates; a single value gets room on both sides."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        margin = 0.0 if high > low else (abs(low) * 0.1 or 1.0)
        self._low, self._high = low - margin, high + margin
        self._start, self._stop = start, stop

    def __call__(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return self._start + share * (self._stop - self._start)

    def ticks(self) -> list[float]:
        """Return three to seven round numbers on the axis."""
        span = self._high - self._low
        unit = 10.0 ** math.floor(math.log10(span / 3))
        step = next(unit * factor for factor in (5, 2, 1) if span / (unit * factor) >= 2.5)
        first, last = math.ceil(self._low / step), math.floor(self._high / step)
        return [index * step for index in range(first, last + 1)]


def _curve(name: str, lines: Sequence[MetricsLine]) -> Curve:
    recorded = [line for line in lines if name in line.values]
    stretches = groupby(recorded, key=lambda line: _figure(line.values, name) is not None)
    return Curve(
        name, tuple(tuple(_points(name, stretch)) for is_known, stretch in stretches if is_known)
    )


def _points(name: str, lines: Iterator[MetricsLine]) -> Iterator[Point]:
    for line in lines:
        value = _figure(line.values, name)
        if value is not None:
            low, high = (_figure(line.values, f"{name}/{end}") for end in ("low", "high"))
            yield Point(line.step, value, low, high)


def _figure(values: Mapping[str, float | int | bool | None], name: str) -> float | None:
    value = values.get(name)
    return None if value is None or isinstance(value, bool) else float(value)


def _path(places: Iterator[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _band(run: Sequence[Point], steps: _Axis, scale: _Axis) -> str:
    upper = [(steps(point.step), scale(point.high)) for point in run if point.high is not None]
    lower = [(steps(point.step), scale(point.low)) for point in run if point.low is not None]
    return _path(iter(upper + lower[::-1]))


def _label(point: Point) -> str:
    text = f"step {point.step}: {number(point.value)}"
    if point.low is None or point.high is None:
        return text
    return f"{text} [{number(point.low)}, {number(point.high)}]"

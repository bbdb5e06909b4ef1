"""A run's figures: one JSON object a step, in a file that survives its process."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from astuner_gym.errors import UnusableInputError
from astuner_rl.errors import RunAbortedError
from astuner_rl.tracing.atomic_file import write_atomically

Metrics: TypeAlias = Mapping[str, float | int | bool]
"""Figures by name, as ``reward/mean``."""


@dataclass(frozen=True, slots=True)
class MetricsLine:
    """What was recorded for one step."""

    step: int
    """Number of updates that the policy had seen."""
    values: Mapping[str, float | int | bool | None]
    """Figures by name; None where the figure was not finite."""


class MetricsLog:
    """Appends to ``metrics.jsonl``; every line is on the disk when :meth:`append` returns."""

    def __init__(self, path: Path) -> None:
        """Open the file for appending; call ``RunFolder.rewind`` before, if the run is resumed."""
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, step: int, metrics: Metrics) -> None:
        """Record the figures of a step; NaN and infinities become null.

        Raises:
            RunAbortedError: The disk is full; the lines before this one are kept whole.
        """
        values = {name: _finite(value) for name, value in sorted(metrics.items())}
        line = json.dumps({"step": step, **values}, allow_nan=False) + "\n"
        size = os.fstat(self._descriptor).st_size
        try:
            _write_all(self._descriptor, line.encode())
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, size)
            raise RunAbortedError(
                f"{self._path}: step {step} could not be recorded, {error}; the steps before are "
                "kept: free space and resume the run"
            ) from error

    def close(self) -> None:
        """Close the file; nothing can be appended afterwards."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[MetricsLine]:
    """Return the lines of a metrics file in order; an absent file has none.

    A last line that its process did not live to finish is left out.

    Raises:
        UnusableInputError: A line is no JSON object with an integer ``step``.
    """
    return [
        _parse_line(line, where=f"{path}:{number}")
        for number, line in enumerate(_whole_lines(path), start=1)
    ]


def drop_metrics_after(path: Path, *, last_step: int) -> None:
    """Remove the lines of steps after ``last_step`` and a torn last line, atomically."""
    kept = [
        line
        for number, line in enumerate(_whole_lines(path), start=1)
        if _parse_line(line, where=f"{path}:{number}").step <= last_step
    ]
    if path.exists():
        write_atomically(path, b"".join(kept))


def _whole_lines(path: Path) -> list[bytes]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [line for line in lines if line.endswith(b"\n")]


def _parse_line(line: bytes, *, where: str) -> MetricsLine:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise UnusableInputError(f"{where}: each line must be a JSON object: {error}") from error
    if not isinstance(values, dict) or type(values.get("step")) is not int:
        raise UnusableInputError(f"{where}: each line must be an object with an integer 'step'")
    return MetricsLine(step=values.pop("step"), values=values)


def _finite(value: float | int | bool) -> float | int | bool | None:
    return value if math.isfinite(value) else None


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]

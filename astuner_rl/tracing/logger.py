"""The seam between the training loop and wherever else its figures are shown."""

from __future__ import annotations

from typing import Protocol

from astuner_rl.tracing.metrics import Metrics


class Logger(Protocol):
    """Shows a run's figures; ``metrics.jsonl`` is the record, so a logger may fail quietly."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Show the figures of a step; never raises."""
        ...

    def close(self, *, failed: bool) -> None:
        """End the run's display; never raises."""
        ...


class SilentLogger:
    """Shows nothing."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Do nothing."""

    def close(self, *, failed: bool) -> None:
        """Do nothing."""

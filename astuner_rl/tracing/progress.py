"""A run's progress on the terminal: one line that changes in place, or a plain line now and then.

::

    step 12/100  reward 0.438  accuracy 61.2%  1,830 tok/s  left 0:04:10
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_INTERVAL_S: Final = 5.0
"""Seconds between two lines where the terminal cannot change one in place."""


class Progress:
    """Shows each step of a run as it ends; use it as a context manager around the loop."""

    def __init__(
        self,
        *,
        first_step: int,
        last_step: int,
        console: Console,
        now: Callable[[], float],
    ) -> None:
        """Show nothing yet.

        Args:
            first_step: Updates done when the loop begins; more than 0 if the run is resumed.
            last_step: Updates done when the loop will end.
            console: Where to; ``Console(stderr=True)`` leaves stdout to the run's results.
            now: A monotonic clock in seconds, such as ``time.monotonic``.
        """
        self._first_step = first_step
        self._last_step = last_step
        self._console = console
        self._now = now
        self._started = now()
        self._printed = -math.inf
        self._accuracy: float | None = None
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show a step's figures; the last accuracy stays in view until the next evaluation."""
        self._accuracy = metrics.get("eval/accuracy", self._accuracy)
        line = self._line(step, metrics)
        if self._live is not None:
            self._live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
        elif step >= self._last_step or self._now() - self._printed >= PLAIN_INTERVAL_S:
            self._printed = self._now()
            self._console.out(line, highlight=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _line(self, step: int, metrics: Mapping[str, float]) -> str:
        parts = [f"step {step}/{self._last_step}"]
        reward = metrics.get("reward/mean")
        if reward is not None:
            parts.append(f"reward {reward:.3f}")
        if self._accuracy is not None:
            parts.append(f"accuracy {self._accuracy:.1%}")
        tokens, seconds = metrics.get("tokens/sampled"), metrics.get("time/step_s")
        if tokens is not None and seconds:
            parts.append(f"{tokens / seconds:,.0f} tok/s")
        done = step - self._first_step
        if done > 0:
            left = (self._now() - self._started) / done * (self._last_step - step)
            parts.append(f"left {timedelta(seconds=round(left))}")
        return "  ".join(parts)

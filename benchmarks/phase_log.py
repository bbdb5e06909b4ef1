"""The command ``train``, with the phases of its loop written to a file.

``python -m benchmarks.phase_log <file> ["--die-in=<phase> <step>"] <settings of train>``; with
``--die-in`` its process group is killed when that phase of that step begins.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

START_UP = "start-up"
PHASES = (START_UP, "rollout", "learn", "evaluate", "record", "checkpoint", "close")
"""What a run does, in the words of its loop; before it is ``start-up``, after it ``close``."""
_DIE_IN = "--die-in="


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A phase that began."""

    time: float
    """Seconds since the epoch."""
    phase: str
    """One of ``PHASES``."""
    step: int


def read_phases(path: Path) -> list[Entry]:
    """Return what was written; nothing where the process died before it began to write."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        # A process may be killed in the middle of a line.
        if line.endswith("\n"):
            time, _, phase, step = line.split()
            entries.append(Entry(time=float(time), phase=phase, step=int(step)))
    return entries


class _Killer(logging.Handler):
    def __init__(self, message: str) -> None:
        super().__init__()
        self._message = message

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == self._message:
            os.killpg(0, signal.SIGKILL)


def _log_phases(path: Path, *, die_in: str | None) -> None:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(created)f %(message)s"))
    log = logging.getLogger("astuner_rl.backbones.loop")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(handler)
    if die_in is not None:
        log.addHandler(_Killer(f"phase {die_in}"))


def main(arguments: Sequence[str]) -> int:
    """Train, and return the exit status of the command."""
    path, *settings = arguments
    die_in = None
    if settings and settings[0].startswith(_DIE_IN):
        die_in = settings.pop(0).removeprefix(_DIE_IN)
    _log_phases(Path(path), die_in=die_in)
    # Only now: it takes seconds, in which a kill must find the log in place.
    from astuner_rl import train

    return train.main(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

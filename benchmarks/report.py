"""The last line that every benchmark prints: its figures and bars as one JSON object."""

from __future__ import annotations

import json
import math
import operator
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parent
RESULTS = _ROOT / "results"
_COMPARISONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


@dataclass(frozen=True, slots=True)
class Bar:
    """A measured value and the goal that it should meet, such as ``Bar(0.97, ">=", 0.9)``."""

    value: float
    comparison: str
    """``>=``, ``>``, ``<=`` or ``<``."""
    goal: float

    @property
    def holds(self) -> bool:
        """Whether the goal is met; NaN meets none."""
        return bool(_COMPARISONS[self.comparison](self.value, self.goal))

    def as_json(self) -> dict[str, float | str | bool | None]:
        """Value (None if it is not finite), goal with its comparison, and whether it holds."""
        return {
            "value": self.value if math.isfinite(self.value) else None,
            "goal": f"{self.comparison} {self.goal:g}",
            "holds": self.holds,
        }


def report(
    benchmark: str,
    *,
    figures: Mapping[str, object],
    bars: Mapping[str, Bar],
    keep: bool,
) -> None:
    """Print the bars for people and everything as one JSON line.

    Args:
        benchmark: The module's name in this package.
        figures: Everything measured, JSON types only.
        bars: By name; one that falls short is reported as well.
        keep: Also write ``benchmarks/results/<benchmark>.json``; for full runs.
    """
    print()
    for name, bar in bars.items():
        verdict = "holds" if bar.holds else "FALLS SHORT"
        print(f"{name:40} {bar.value:10.3f}   goal {bar.comparison} {bar.goal:g}   {verdict}")
    outcome = _outcome(benchmark, figures, bars)
    if keep:
        _write(outcome, benchmark)
    print(json.dumps(outcome))


def keep_so_far(benchmark: str, *, figures: Mapping[str, object]) -> None:
    """Write ``benchmarks/results/<benchmark>.json`` before the end, for a run that may be cut off.

    Args:
        benchmark: The module's name in this package.
        figures: What was measured so far, JSON types only.
    """
    _write(_outcome(benchmark, figures, {}), benchmark)


def _outcome(
    benchmark: str, figures: Mapping[str, object], bars: Mapping[str, Bar]
) -> dict[str, object]:
    return {
        "benchmark": benchmark,
        "machine": machine(),
        "commit": commit(),
        "figures": dict(figures),
        "bars": {name: bar.as_json() for name, bar in bars.items()},
    }


def _write(outcome: Mapping[str, object], benchmark: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{benchmark}.json").write_text(json.dumps(outcome, indent=2) + "\n")


def machine() -> dict[str, str | int]:
    """What a figure depends on besides the code: processor, cores, memory, Python, system."""
    description: dict[str, str | int] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if platform.system() == "Linux":
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        description["memory_gib"] = round(size / 2**30)
    return description


def commit() -> str:
    """Hash of the commit measured, with ``-dirty`` if files differ; ``unknown`` outside git."""
    try:
        head = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changes else head


def _git(*arguments: str) -> str:
    result = subprocess.run(
        ["git", *arguments], cwd=_ROOT, check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"

"""Memory and CPU time of a process and all that it has started, as Linux tells; elsewhere 0."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it has started, by way of others, too."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text("ascii").split()
        except OSError:  # the thread has ended
            continue
        for child in found:
            yield from family(int(child))


def peak_rss_gb(pid: int) -> float:
    """Return the most memory that a process has had so far, in GB of 1e9 bytes."""
    # Not getrusage: a child's figure begins with what its parent had when it was forked.
    return _gb_in(Path(f"/proc/{pid}/status"), "VmHWM:")


def memory_gb(pid: int) -> float:
    """Return the memory of a process now, in GB of 1e9 bytes; of what it shares, its share."""
    return _gb_in(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:  # it has ended, or there is no such file on this system
        return 0.0
    # Behind the command in parentheses, which may hold spaces; user and system are 14th and 15th.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _gb_in(file: Path, name: str) -> float:
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError:  # the process has ended, or there is no such file on this system
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith(name)), 0.0)

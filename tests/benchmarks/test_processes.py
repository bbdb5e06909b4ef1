"""What is told of a process and of those that it has started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.processes import cpu_seconds, family, memory_gb, peak_rss_gb

GRANDPARENT = """
import subprocess, sys
child = "bytearray(100_000_000); print('ready', flush=True); input()"
subprocess.run([sys.executable, "-c", "x = " + child])
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@pytest.fixture
def started() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", GRANDPARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    if process.poll() is None:
        process.communicate("go on\n")


def test_what_a_child_has_is_found(started: subprocess.Popen[str]) -> None:
    parent, child = family(started.pid)
    assert parent == started.pid
    assert set(family(os.getpid())) >= {os.getpid(), parent, child}
    assert memory_gb(parent) < 0.1 < memory_gb(child) < 0.2
    assert peak_rss_gb(child) > 0.1
    assert cpu_seconds(child) > 0.0


def test_a_process_that_has_ended_has_nothing(started: subprocess.Popen[str]) -> None:
    started.communicate("go on\n")
    assert list(family(started.pid)) == [started.pid]
    assert memory_gb(started.pid) == peak_rss_gb(started.pid) == cpu_seconds(started.pid) == 0.0

"""Memory between blocks in use is handed back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

HEAP_FULL_OF_GAPS = """
from pathlib import Path
from astuner_rl.free_memory import return_free_memory

def resident_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) // 1024

blocks = [bytes([1]) * 60_000 for _ in range(3_000)]
blocks[:-1] = []  # the last block lies above all that is free
before = resident_mib()
return_free_memory()
print(before - resident_mib())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library does nothing")
def test_what_lies_below_a_block_in_use_is_handed_back() -> None:
    # In a process of its own, whose heap nobody else has filled.
    result = subprocess.run(
        [sys.executable, "-c", HEAP_FULL_OF_GAPS], check=True, capture_output=True, text=True
    )
    assert int(result.stdout) > 150  # of 171 MiB

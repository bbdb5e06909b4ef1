"""Which processor computes: its kernels round in their own way."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")


def processor() -> str:
    """Return the processor's model, where the system tells it, and the instructions torch uses."""
    return f"{_model()}, {torch.backends.cpu.get_cpu_capability()}"


def _model() -> str:
    if not _CPUINFO.exists():
        return platform.processor() or platform.machine()
    for line in _CPUINFO.read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()

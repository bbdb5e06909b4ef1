"""How weights get from a learner to the workers of vLLM, which are processes of their own.

They lie in a file in memory that the learner's process holds open meanwhile, so that nothing is
left of it where that process is killed. Each worker maps the file and takes its own share.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


@contextmanager
def memory_file() -> Iterator[str]:
    """Yield the path of an empty file in memory, for this user's processes on this machine."""
    # A name in /dev/shm would outlive a killed process, and containers keep that folder small.
    descriptor = os.memfd_create("weights")
    try:
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def write_weights(
    path: str, weights: Mapping[str, torch.Tensor], *, dtype: torch.dtype | None
) -> None:
    """Write weights in the format of ``torch.save``; tied ones are written once.

    Args:
        path: Of the file.
        weights: By name.
        dtype: Type that they are rounded to; None for their own.
    """
    written: dict[tuple[int, torch.Size], torch.Tensor] = {}
    named = {}
    for name, weight in weights.items():
        place = (weight.data_ptr(), weight.shape)
        if place not in written:
            written[place] = weight.detach().to("cpu", dtype)
        named[name] = written[place]
    torch.save(named, path)

"""What vLLM's workers can do besides; only they import this, each in a process of its own."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterable
from typing import Protocol

import torch


class _Worker(Protocol):
    def reload_weights(self, *, weights_iterator: Iterable[tuple[str, torch.Tensor]]) -> None: ...


class LoadsWeightsFromMemory:
    """A base class that a worker gets, beside its own."""

    def load_weights_from_memory(self: _Worker, path: str) -> None:
        """Take over all weights of the model, as ``write_weights`` has written them to ``path``."""
        weights = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        self.reload_weights(weights_iterator=weights.items())


def _end_with(owner: int) -> None:
    """End this process when ``owner`` has ended, and with it the engine.

    By themselves they would go on for ever if their owner is killed.
    """
    try:
        ended = os.pidfd_open(owner)
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        select.select([ended], [], [])
        os._exit(1)

    threading.Thread(target=wait, name="end-with-owner", daemon=True).start()


_end_with(int(os.environ["ASTUNER_VLLM_OWNER"]))

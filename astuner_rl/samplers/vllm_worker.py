"""What vLLM's workers can do besides; only they import this, each in a process of its own."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch

from astuner_rl.free_memory import return_free_memory
from astuner_rl.samplers.adapters import merged, split

_RETURN_EVERY_S = 0.5


class _Worker(Protocol):
    weights_below_adapters: Mapping[str, torch.Tensor] | None

    def reload_weights(self, *, weights_iterator: Iterable[tuple[str, torch.Tensor]]) -> None: ...


class LoadsWeightsFromMemory:
    """A base class that a worker gets, beside its own."""

    weights_below_adapters: Mapping[str, torch.Tensor] | None = None
    """What adapters are added to, whole; it stays in the file in memory, which all workers map."""

    def load_weights_from_memory(self: _Worker, path: str) -> None:
        """Take over what ``write_weights`` has written to ``path``: weights, adapters, or both.

        The model is reloaded whole either way: of the layers that vLLM has fused, it takes a part
        without a word.
        """
        loaded = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        weights, adapters = split(loaded)
        if adapters and not weights:
            assert self.weights_below_adapters is not None  # the sampler sees to that
            weights = self.weights_below_adapters
        self.weights_below_adapters = weights if adapters else None
        self.reload_weights(weights_iterator=merged(weights, adapters))


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


def _keep_returning_free_memory() -> None:
    """Return free memory twice a second, as long as the process lives.

    Without it an engine of a tiny model grows from 0.9 to 1.4 GB within fifty updates: new weights
    and what passes compute take turns in the heap.
    """

    def repeat() -> None:
        while True:
            time.sleep(_RETURN_EVERY_S)
            return_free_memory()

    threading.Thread(target=repeat, name="return-free-memory", daemon=True).start()


_end_with(int(os.environ["ASTUNER_VLLM_OWNER"]))
_keep_returning_free_memory()

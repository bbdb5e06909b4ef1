"""Ranks that are processes, one a device, joined by ``torch.distributed``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import Store  # type: ignore[attr-defined]
from torch.distributed.device_mesh import init_device_mesh

from astuner_rl.learning.layout import Row
from astuner_rl.learning.module_weights import ModuleWeights
from astuner_rl.learning.sharded_tensors import gathered
from astuner_rl.learning.sharded_weights import ShardedWeights
from astuner_rl.learning.shares import balanced_shares


class ProcessRanks:
    """The process as one rank; made once in it, by all ranks at the same time.

    Gloo joins CPUs and NCCL GPUs. They listen on the interface that ``GLOO_SOCKET_IFNAME`` or
    ``NCCL_SOCKET_IFNAME`` names, which whoever starts the processes sets.

    Args:
        rank: From 0.
        size: How many ranks there are.
        init_method: Where ranks find each other: ``file://<path>`` of a file that does not exist
            yet, ``tcp://<address>:<port>`` of the first rank, or a store that they share.
        device: What this rank computes on, such as ``cuda:0``; models have to be there.
        timeout: How long a rank waits for the others before it fails.
    """

    def __init__(
        self,
        *,
        rank: int,
        size: int,
        init_method: str | Store,
        device: str = "cpu",
        timeout: timedelta = timedelta(minutes=10),
    ) -> None:
        if not 0 <= rank < size:
            raise ValueError(f"rank must be in [0, {size}), got {rank}")
        self._rank = rank
        self._size = size
        self._device = torch.device(device)
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        distributed.init_process_group(
            "nccl" if self._device.type == "cuda" else "gloo",
            init_method=init_method if isinstance(init_method, str) else None,
            store=None if isinstance(init_method, str) else init_method,
            rank=rank,
            world_size=size,
            timeout=timeout,
        )
        self._mesh = init_device_mesh(self._device.type, (size,))

    def close(self) -> None:
        """Leave the others; nothing that was kept can be used any more."""
        distributed.destroy_process_group()

    def keep(
        self, module: nn.Module, *, probe: Callable[[], Tensor], dtype: torch.dtype | None
    ) -> ModuleWeights:
        """Shard the module in place; see ``Ranks``."""
        return ShardedWeights(module, mesh=self._mesh, probe=probe, dtype=dtype)

    def share(self, rows: Sequence[Row], *, merges: bool) -> list[Row]:
        """Return this rank's part of the rows; see ``Ranks``."""
        return balanced_shares(rows, ranks=self._size, merges=merges)[self._rank]

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over ranks, where ``values`` is; see ``Ranks``."""
        summed = values.to(self._device, copy=True)
        distributed.all_reduce(summed)
        return summed.to(values.device)

    def combined(self, readings: Tensor) -> Tensor:
        """Return the readings of all ranks; see ``Ranks``."""
        # Each is that of one rank, so the sum of it and zeros is exact.
        read = ~readings.isnan()
        sums = self.total(torch.stack([readings.nan_to_num(0.0), read.to(readings)]))
        return sums[0].masked_fill(sums[1] == 0, torch.nan)

    def largest(self, value: float) -> float:
        """Return the largest of all ranks' values."""
        values = torch.tensor(value, dtype=torch.float64, device=self._device)
        distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
        return values.item()

    def gather(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the whole state to rank 0; see ``Ranks``."""
        everything: dict[str, Any] = gathered(state, keep=self._rank == 0)
        return everything if self._rank == 0 else {}

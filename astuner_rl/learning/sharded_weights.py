"""Weights of which every rank holds a part, by FSDP2 (``torch.distributed.fsdp.fully_shard``).

Parameters, gradients and moments are held in parts from step to step. Number and order of passes
differ from rank to rank, so inside a step nobody may wait for another: the weights are put together
before the first pass, stay together until the last, and gradients are summed after it. The memory
of a step is therefore that of whole weights and whole gradients, beside parts of everything else.

FSDP2 sums gradients in a backward pass. The one that does so is that of the probe, a pass of one
token whose loss is 0, which every rank runs after its own: also one that had nothing to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from astuner_rl.learning.blocks import transformer_blocks
from astuner_rl.learning.sharded_tensors import sharded_as


class ShardedWeights:
    """Weights of a module that the ranks of a mesh share.

    Args:
        module: Equal on all ranks; sharded in place.
        mesh: With one dimension.
        probe: Runs the shortest pass through it, and returns what has a gradient of it, [].
        dtype: What the module computes in, with parts of the weights as they are; None for theirs.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mesh: DeviceMesh,
        probe: Callable[[], Tensor],
        dtype: torch.dtype | None,
    ) -> None:
        self._module = module
        self._probe = probe
        self._dtype = dtype
        # What is given to a layer has the type of the layer before; angles stay in float32.
        policy = MixedPrecisionPolicy(
            param_dtype=dtype,
            reduce_dtype=None if dtype is None else torch.float32,
            cast_forward_inputs=False,
        )
        # Each layer is put together by itself, so that only one is in transit at a time.
        for block in transformer_blocks(module):
            fully_shard(block, mesh=mesh, reshard_after_forward=False, mp_policy=policy)
        self._root = fully_shard(module, mesh=mesh, reshard_after_forward=False, mp_policy=policy)
        self._parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
        for part in self._parts:
            # Gradients are shares of one sum, not estimates of the same mean.
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
        self._root.set_reduce_scatter_unused_params(True)
        # FSDP2 learns in the first pass which part is the root; not every rank may have another.
        with torch.no_grad(), self.passes():
            probe()

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """All parameters that have a gradient, of each the part that is here."""
        return [parameter for parameter in self._module.parameters() if parameter.requires_grad]

    @contextmanager
    def passes(self) -> Iterator[None]:
        """Put the weights together; see ``ModuleWeights``."""
        for part in self._parts:
            part.unshard()
        try:
            yield
        finally:
            self._root.reset_iter_state()

    @contextmanager
    def training_passes(self) -> Iterator[None]:
        """Put the weights together, and sum the gradients at the end; see ``ModuleWeights``."""
        self._sums_gradients(False)
        with self.passes():
            yield
            self._sums_gradients(True)
            (self._probe() * 0).backward()  # type: ignore[no-untyped-call]

    def _sums_gradients(self, now: bool) -> None:
        self._root.set_requires_gradient_sync(now)
        self._root.set_reshard_after_backward(now)
        self._root.set_is_last_backward(now)

    def moved(self) -> None:
        """Nothing has to be done: they are put together anew for the next passes."""

    def computed(self) -> Mapping[str, Tensor]:
        """Return this rank's parts of the weights, in the type that the module computes in."""
        state = self._module.state_dict(keep_vars=True)
        if self._dtype is None:
            return {name: tensor.detach() for name, tensor in state.items()}
        return {
            name: tensor.detach().to(self._dtype) if isinstance(tensor, nn.Parameter) else tensor
            for name, tensor in state.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return this rank's parts of the weights."""
        return self._module.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take this rank's parts of what is given, whole tensors or parts."""
        self._module.load_state_dict(sharded_as(state, self._module.state_dict()))

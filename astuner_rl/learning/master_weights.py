"""Weights that compute in 16 bits and learn in 32.

A step of a learning rate of 1e-6 is lost in the 8 bits of a bfloat16 number. So an optimizer moves
copies in float32, the *masters*, and the module computes with what they are rounded to: 2 bytes for
each parameter and for each number that a pass keeps, in place of 4. Gradients of the passes are
added up in float32, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def compute_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Round a module's parameters, in place; buffers, such as rotary angles, stay as they are."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)


class MasterWeights:
    """Weights of a module in one process, with a master for each that has a gradient.

    Args:
        module: In float32; made to compute in ``dtype`` in place.
        dtype: Such as bfloat16.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._module = module
        self._masters = {
            parameter: nn.Parameter(parameter.detach())
            for parameter in module.parameters()
            if parameter.requires_grad
        }
        compute_in(module, dtype)
        for parameter in self._masters:
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                self._add_gradient
            )

    def _add_gradient(self, parameter: Tensor) -> None:
        """Add the gradient of a pass to that of the master."""
        assert isinstance(parameter, nn.Parameter)
        assert parameter.grad is not None
        master = self._masters[parameter]
        gradient = parameter.grad.to(master.dtype)
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        parameter.grad = None

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """The masters."""
        return list(self._masters.values())

    def passes(self) -> AbstractContextManager[None]:
        """Nothing has to be done."""
        return nullcontext()

    def training_passes(self) -> AbstractContextManager[None]:
        """Nothing has to be done: gradients move to the masters where they arise."""
        return nullcontext()

    @torch.no_grad()
    def moved(self) -> None:
        """Round the masters to what the module computes with."""
        for parameter, master in self._masters.items():
            parameter.copy_(master)

    def computed(self) -> Mapping[str, Tensor]:
        """Return the module's weights; see ``ModuleWeights``."""
        weights: Mapping[str, Tensor] = self._module.state_dict()
        return weights

    def state_dict(self) -> dict[str, Any]:
        """Return the masters by the names of what they stand for, and the other weights."""
        state = self._module.state_dict(keep_vars=True)
        return {name: self._masters.get(one, one).detach() for name, one in state.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        for name, own in self.state_dict().items():
            own.copy_(state[name])
        self.moved()

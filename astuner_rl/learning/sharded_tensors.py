"""Tensors of which every rank holds a part, and what they are as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that no rank shares with others; all ranks take part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return the tensor as ``other`` is: this rank's part of it, or itself. Nobody is waited for.

    Args:
        tensor: Whole, or already as ``other`` is.
        other: Of the same shape.
    """
    if isinstance(tensor, DTensor) or not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(
        tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None
    )


def sharded_as(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a module's state with every tensor as in ``own``, its present state."""
    return {
        name: sharded_like(tensor, own[name]) if name in own else tensor
        for name, tensor in state.items()
    }


def gathered(state: Any, *, keep: bool) -> Any:
    """Return a nested state with whole tensors on the CPU in place of those that ranks share.

    Args:
        state: Of dicts, lists and tuples; the same on all ranks but for their parts of tensors.
        keep: Whether this rank wants it; if not, tensors are dropped as soon as they were whole.

    Returns:
        As ``state``; None in place of tensors that are not kept.
    """
    if isinstance(state, Tensor):
        tensor = whole(state.detach())
        return tensor.cpu() if keep else None
    if isinstance(state, Mapping):
        return {name: gathered(value, keep=keep) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [gathered(value, keep=keep) for value in state]
    return state

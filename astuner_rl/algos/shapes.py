"""The shape check at the boundary of every flat function."""

from __future__ import annotations

from torch import Tensor


def require_same_shape(*tensors: Tensor) -> None:
    """Refuse tensors that would broadcast: ``[N]`` against ``[N, 1]`` gives a wrong ``[N, N]``.

    Raises:
        ValueError: The shapes differ.
    """
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"flat token arrays must have one shape, got {shapes}; index all of them alike"
        )

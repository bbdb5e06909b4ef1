"""Whitening: advantages of mean 0 and variance 1."""

from __future__ import annotations

import torch
from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape


def whiten(advantages: Tensor, weights: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Return ``(A - mean) / sqrt(var + eps)`` with mean and variance under ``weights``, [N].

    The weights are those of the loss, so that what the loss averages has mean 0.

    Args:
        advantages: [N].
        weights: [N], summing to 1.
        eps: Keeps advantages finite that hardly differ; equal ones become 0.
    """
    require_same_shape(advantages, weights)
    if bool((advantages == advantages[:1]).all()):
        # Whatever the rounding of their mean: advantages of 0 are told from those that train.
        return torch.zeros_like(advantages)
    centred = advantages - (weights * advantages).sum()
    variance = (weights * centred.square()).sum()
    return centred * (variance + eps).rsqrt()

"""The critic's loss, and how much of the returns it explains."""

from __future__ import annotations

import torch
from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, weights: Tensor, *, clip: float
) -> Tensor:
    """Return ``sum_t w_t max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2) / 2``, [].

    The pessimistic value loss of the PPO implementation by its authors (openai/baselines, ppo2):
    in one update a value has no gradient once it has moved by ``clip`` towards its return.

    Args:
        values: [N] under the critic being trained; the gradient flows through it alone.
        old_values: [N] under the critic before the update.
        returns: [N] targets.
        weights: [N].
        clip: How far a value may move in one update; ``inf`` leaves the plain squared error.
    """
    require_same_shape(values, old_values, returns, weights)
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    error = torch.maximum((values - returns).square(), (clipped - returns).square())
    return (weights * error).sum() / 2


def explained_variance(values: Tensor, returns: Tensor, weights: Tensor) -> Tensor:
    """Return ``1 - Var(R - V) / Var(R)`` under ``weights``, [].

    1 is a perfect critic, 0 one no better than a constant; below 0 it is worse. Returns that are
    all equal have no variance to explain: the figure is 0 by convention.

    Args:
        values: [N] estimates.
        returns: [N] what they estimate.
        weights: [N], summing to 1.
    """
    require_same_shape(values, returns, weights)
    total = _variance(returns, weights)
    if returns.numel() == 0 or total == 0:
        return total.new_zeros(())
    return 1.0 - _variance(returns - values, weights) / total


def _variance(samples: Tensor, weights: Tensor) -> Tensor:
    mean = (weights * samples).sum()
    return (weights * (samples - mean).square()).sum()

"""Entropy of the policy at the states in which it sampled."""

from __future__ import annotations

from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape


def categorical_entropy(log_distribution: Tensor) -> Tensor:
    """Return ``H = -sum_v p_v log p_v`` in nats, [N].

    Args:
        log_distribution: [N, V] normalised log-probs; -inf where a token cannot be drawn.
    """
    # p log p tends to 0 with p; 0 * -inf would be NaN, hence the finite floor.
    floor = log_distribution.clamp_min(-1e4)
    return -(log_distribution.exp() * floor).sum(-1)


def entropy_bonus(entropies: Tensor, weights: Tensor) -> Tensor:
    """Return ``sum_t w_t H_t``, to be subtracted from a loss, [].

    Args:
        entropies: [N] see :func:`categorical_entropy`.
        weights: [N].
    """
    require_same_shape(entropies, weights)
    return (weights * entropies).sum()

"""The clipped surrogate of PPO and GRPO."""

from __future__ import annotations

import torch
from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape

MAX_LOG_RATIO = 20.0
"""Log-ratios are held within it: beyond, ``exp`` overflows and the branch that ``min`` leaves out
would turn a zero gradient into NaN."""


def probability_ratio(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """Return ``rho_t = pi(a_t | s_t) / pi_old(a_t | s_t)``, [N]."""
    return (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def clipped_surrogate_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    weights: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """Return ``-sum_t w_t min(rho_t A_t, clip(rho_t, 1 - clip_low, 1 + clip_high) A_t)``.

    PPO (Schulman et al. 2017, arXiv:1707.06347, equation 7); the two bounds may differ, as in DAPO
    (Yu et al. 2025, arXiv:2503.14476, section 3.1). A sum with weights fixed beforehand: its
    value over a batch is the sum of its values over any parts.

    Args:
        logprobs: [N] under the policy being trained; the gradient flows through it alone.
        old_logprobs: [N] under the policy that sampled.
        advantages: [N].
        weights: [N], see :func:`astuner_rl.algos.weights.token_weights`.
        clip_low: How far below 1 the ratio still has a gradient.
        clip_high: How far above 1.

    Returns:
        [] the loss.
    """
    require_same_shape(logprobs, old_logprobs, advantages, weights)
    ratio = probability_ratio(logprobs, old_logprobs)
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return -(weights * torch.minimum(ratio * advantages, clipped * advantages)).sum()


def is_clipped(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """Return [N] bool: tokens whose gradient the clip took away.

    A ratio above the upper bound is clipped only where the advantage is positive, one below the
    lower bound only where it is negative.
    """
    require_same_shape(logprobs, old_logprobs, advantages)
    ratio = probability_ratio(logprobs, old_logprobs)
    above = (ratio > 1.0 + clip_high) & (advantages > 0)
    below = (ratio < 1.0 - clip_low) & (advantages < 0)
    return above | below

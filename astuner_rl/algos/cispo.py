"""CISPO: the importance weight is clipped, and no token loses its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape
from astuner_rl.algos.surrogate import probability_ratio


def cispo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    weights: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """Return ``-sum_t w_t sg(clip(rho_t, 1 - clip_low, 1 + clip_high)) A_t log pi_t``.

    MiniMax-M1 (Chen et al. 2025, arXiv:2506.13585, equations 4 and 5); ``sg`` lets no gradient
    through. Where PPO's clip gives a token that moved too far no gradient at all, here its weight
    is bounded: rare tokens that open a line of thought are still learned from.

    Args:
        logprobs: [N] under the policy being trained; the gradient flows through it alone.
        old_logprobs: [N] under the policy that sampled.
        advantages: [N].
        weights: [N], see :func:`astuner_rl.algos.weights.token_weights`.
        clip_low: How far below 1 a weight may lie; 1 bounds it by 0 alone, as published.
        clip_high: How far above 1.

    Returns:
        [] the loss.
    """
    require_same_shape(logprobs, old_logprobs, advantages, weights)
    with torch.no_grad():
        ratio = probability_ratio(logprobs, old_logprobs)
        importance = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return -(weights * importance * advantages * logprobs).sum()

"""Importance weights for tokens that another policy sampled than the one that is trained.

An engine that rounds differently, or weights that are some updates old, make the sampler's policy
``mu`` differ from the policy before the update, ``pi_old``. The surrogate is then taken relative
to ``pi_old``, and each token weighs ``pi_old / mu``, bounded, since few large weights would rule
the update (decoupled PPO: Hilton et al. 2021, arXiv:2110.00641; for sampler and learner: Yao et al.
2025, "Your efficient RL framework secretly brings you off-policy RL training").
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from astuner_rl.algos.surrogate import probability_ratio


class Importance(StrEnum):
    """What is done about the difference."""

    NONE = "none"
    """Nothing: the surrogate is relative to the sampler's log-probs, as is exact for a sampler that
    agrees with the learner."""
    TRUNCATE = "truncate"
    """A weight above the bound is the bound (TIS)."""
    MASK = "mask"
    """A token whose weight lies above the bound, or below its inverse, is not trained (MIS, as in
    IcePop)."""


def importance_weights(
    logprobs: Tensor, sampler_logprobs: Tensor, *, kind: Importance, bound: float
) -> Tensor:
    """Return the factor of each token's weight in the loss, [N].

    Args:
        logprobs: [N] under the policy before the update.
        sampler_logprobs: [N] as they were recorded.
        kind: What is done about weights that are too large.
        bound: The largest weight, >= 1.

    Example: ratios ``[0.2, 1, 4]`` and a bound of 2 give ``[0.2, 1, 2]`` truncated and
    ``[0, 1, 0]`` masked.
    """
    ratio = probability_ratio(logprobs, sampler_logprobs)
    match kind:
        case Importance.NONE:
            return torch.ones_like(ratio)
        case Importance.TRUNCATE:
            return ratio.clamp_max(bound)
        case Importance.MASK:
            inside = (ratio <= bound) & (ratio >= 1.0 / bound)
            return torch.where(inside, ratio, torch.zeros_like(ratio))

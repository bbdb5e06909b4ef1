"""Weights of tokens in the loss: which mean a loss takes, fixed before any cut into rows."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape


class Aggregation(StrEnum):
    """What weighs the same in the loss."""

    EPISODE = "episode"
    """Every agent-episode, its tokens equally: an agent that talks more does not weigh more."""
    CALL = "call"
    """Every call, its tokens equally: the mean of GRPO as published, a call being a sequence."""
    TOKEN = "token"
    """Every token: the mean of DAPO (Yu et al. 2025, arXiv:2503.14476, section 3.3)."""
    CONSTANT = "constant"
    """Every token, its weight the same in every batch: the sum of Dr. GRPO (Liu et al. 2025,
    arXiv:2503.20783), in which a long reply counts for as many tokens as it has."""


def token_weights(
    unit: Tensor, call: Tensor, *, aggregation: Aggregation, constant: int = 1
) -> Tensor:
    """Return the weight of each sampled token; the weights sum to 1, but for ``constant``.

    ``episode``: ``1 / (units * tokens of the unit)``; ``call``: ``1 / (calls * tokens of the
    call)``; ``token``: ``1 / N``; ``constant``: ``1 / (units * constant)``. Only units and calls
    that sampled a token are counted.

    Args:
        unit: [N] int, agent-episode of each token.
        call: [N] int, call of each token, numbered over the whole batch.
        aggregation: What weighs the same.
        constant: Tokens that an agent-episode counts as, where that is the aggregation.

    Returns:
        [N] float64.

    Example: unit 0 sampled 3 tokens and unit 1 sampled 1; ``episode`` gives
    ``[1/6, 1/6, 1/6, 1/2]``, ``token`` gives 1/4 each.
    """
    require_same_shape(unit, call)
    if unit.numel() == 0:
        return unit.to(torch.float64)
    match aggregation:
        case Aggregation.EPISODE:
            part = unit
        case Aggregation.CALL:
            part = call
        case Aggregation.TOKEN:
            part = torch.arange(unit.numel(), device=unit.device)
        case Aggregation.CONSTANT:
            units = int((torch.bincount(unit) > 0).sum())
            return torch.full(unit.shape, 1.0 / (units * constant), dtype=torch.float64)
    tokens = torch.bincount(part).to(torch.float64)
    return 1.0 / (tokens[part] * (tokens > 0).sum())

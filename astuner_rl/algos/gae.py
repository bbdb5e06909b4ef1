"""Generalised advantage estimation over the sampled tokens of each agent."""

from __future__ import annotations

import torch
from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape


def gae(
    values: Tensor,
    rewards: Tensor,
    unit: Tensor,
    bootstrap: Tensor,
    *,
    discount: float,
    trace_decay: float,
) -> Tensor:
    """Return ``A_t = delta_t + discount * trace_decay * A_{t+1}``, the TD(lambda) errors.

    ``delta_t = r_t + discount * V_{t+1} - V_t`` (Schulman et al. 2015, arXiv:1506.02438, equations
    11-16). ``t`` counts the sampled tokens of one agent-episode in call order, whatever timeline
    they lie in; context tokens are no time steps: the token after a call's last is the next
    call's first. After the last token ``V`` is ``bootstrap``: 0 where the episode terminated, a
    value estimate where it was truncated.

    Args:
        values: [N] ``V_t``, the value of the state in which token ``t`` was sampled.
        rewards: [N] ``r_t``, received for token ``t``.
        unit: [N] int, agent-episode of each token; ascending.
        bootstrap: [U] value of the state after the last token of each agent-episode.
        discount: Per sampled token, in [0, 1].
        trace_decay: lambda, in [0, 1].

    Returns:
        [N] advantages; ``advantages + values`` are the lambda-returns to fit values to.

    Example: one agent-episode that terminated, ``V = [.5, .4]``, ``r = [0, 1]``, both factors 1:
    ``delta = [-.1, .6]`` and ``A = [.5, .6]``.
    """
    require_same_shape(values, rewards, unit)
    if unit.numel() == 0:
        return values.clone()
    # Rows are aligned at their ends, [U, L] with L the longest, so that one backward sweep serves
    # all of them; what lies before a row's first token is never read back.
    units = bootstrap.numel()
    lengths = torch.bincount(unit, minlength=units)
    longest = int(lengths.max())
    ends = lengths.cumsum(0)
    column = torch.arange(unit.numel(), device=unit.device) - ends[unit] + longest
    values_ul = values.new_zeros(units, longest)
    rewards_ul = values.new_zeros(units, longest)
    values_ul[unit, column] = values
    rewards_ul[unit, column] = rewards
    advantages_ul = torch.empty_like(values_ul)
    following_value = bootstrap
    following_advantage = torch.zeros_like(bootstrap)
    for t in range(longest - 1, -1, -1):
        delta = rewards_ul[:, t] + discount * following_value - values_ul[:, t]
        following_advantage = delta + discount * trace_decay * following_advantage
        advantages_ul[:, t] = following_advantage
        following_value = values_ul[:, t]
    return advantages_ul[unit, column]

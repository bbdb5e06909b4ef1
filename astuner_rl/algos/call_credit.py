"""Credit by call: a reply answers for what was earned from it on, not for what came before."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape


class Credit(StrEnum):
    """What an advantage is computed for, and all of whose tokens have it."""

    EPISODE = "episode"
    """An agent's whole part in an episode, by its total reward."""
    CALL = "call"
    """Each call, by what was earned from it on (Zeng et al. 2025, arXiv:2505.11821, whose turns
    are calls); it is compared with the calls of its group that are as far from the start."""


def returns_to_go(call_rewards: Tensor, call_unit: Tensor) -> Tensor:
    """Return what each call's agent-episode earned with it and after it.

    Args:
        call_rewards: [C] reward that fell with each call.
        call_unit: [C] int, agent-episode of each call; ascending, its calls in their order.

    Returns:
        [C] in the type of ``call_rewards``.

    Example: calls of one agent-episode that earned ``[.5, 0, 1]`` return ``[1.5, 1, 1]``.
    """
    require_same_shape(call_rewards, call_unit)
    from_here_on = call_rewards.flip(0).cumsum(0).flip(0)
    # Less what later agent-episodes earned: all that is left at the end of one's own calls.
    last = _last_of_each(call_unit)
    after = torch.cat([from_here_on[1:], from_here_on.new_zeros(1)])
    return from_here_on - after[last]


def call_groups(call_unit: Tensor, group: Tensor) -> Tensor:
    """Return [C] int: calls of one number are compared with each other.

    They are those of agent-episodes of one group that have as many calls before them.

    Args:
        call_unit: [C] int, agent-episode of each call; ascending, its calls in their order.
        group: [U] int, group of each agent-episode.

    Example: two agent-episodes of one group with 2 and 1 calls give ``[0, 1, 0]``: the second
    call of the first has nothing to be compared with.
    """
    calls = torch.bincount(call_unit, minlength=group.numel())
    first = calls.cumsum(0) - calls
    place = torch.arange(call_unit.numel()) - first[call_unit]
    longest = int(calls.max()) if calls.numel() else 0
    # Numbers need not follow each other: those that name no call are empty groups.
    return group[call_unit] * longest + place


def _last_of_each(call_unit: Tensor) -> Tensor:
    """Return [C] index of the last call of each call's agent-episode."""
    ends = torch.bincount(call_unit).cumsum(0) - 1
    return ends[call_unit]

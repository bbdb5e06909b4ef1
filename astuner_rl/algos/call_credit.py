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

    Agent-episodes that earned the same have the same returns to the last bit, wherever in the
    batch they stand, so that what agrees has no advantage.

    Args:
        call_rewards: [C] reward that fell with each call.
        call_unit: [C] int, agent-episode of each call; ascending, its calls in their order.

    Returns:
        [C] in the type of ``call_rewards``.

    Example: calls of one agent-episode that earned ``[.5, 0, 1]`` return ``[1.5, 1, 1]``.
    """
    require_same_shape(call_rewards, call_unit)
    if call_unit.numel() == 0:
        return call_rewards.clone()
    calls = torch.bincount(call_unit)
    place = torch.arange(call_unit.numel()) - (calls.cumsum(0) - calls)[call_unit]
    # [U, L], a row for each agent-episode, so that no sum runs over those of others.
    earned = call_rewards.new_zeros(calls.numel(), int(calls.max()))
    earned[call_unit, place] = call_rewards
    return earned.flip(1).cumsum(1).flip(1)[call_unit, place]


def call_groups(call_unit: Tensor, call_index: Tensor, group: Tensor) -> Tensor:
    """Return [C] int: calls of one number are compared with each other.

    They are those of agent-episodes of one group that have as many calls before them. Not every
    number names a call.

    Args:
        call_unit: [C] int, agent-episode of each call.
        call_index: [C] int, number of calls that the agent made before, trained or not.
        group: [U] int, group of each agent-episode.

    Example: two agent-episodes of one group with 2 and 1 calls give ``[0, 1, 0]``: the second
    call of the first has nothing to be compared with.
    """
    require_same_shape(call_unit, call_index)
    most = int(call_index.max()) + 1 if call_index.numel() else 0
    return group[call_unit] * most + call_index

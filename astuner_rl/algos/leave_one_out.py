"""The leave-one-out baseline: what an episode is worth beside the mean of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from astuner_rl.algos.groups import group_advantages


def leave_one_out_advantages(rewards: Tensor, group: Tensor) -> Tensor:
    """Return ``A_u = r_u - mean of the group's other rewards``.

    RLOO (Ahmadian et al. 2024, arXiv:2402.14740, equation 8). It is ``n / (n - 1)`` times the
    reward less the mean of all n: unlike that, the baseline does not hold the reward itself, so the
    gradient is unbiased. A group of which one episode is left gives 0.

    Args:
        rewards: [U] float, reward of each agent-episode.
        group: [U] int >= 0; agent-episodes with the same number are compared with each other.

    Returns:
        [U] advantages in the type of ``rewards``.

    Example: rewards ``[1, 0, 0]`` in one group give ``[1, -.5, -.5]``.
    """
    centred = group_advantages(rewards, group, scale_by_std=False)
    members = torch.bincount(group).to(rewards.dtype)[group]
    return centred * members / (members - 1).clamp_min(1)

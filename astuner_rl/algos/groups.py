"""Group-relative advantages: what an episode is worth beside its siblings of the same task."""

from __future__ import annotations

import torch
from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape


def group_advantages(
    rewards: Tensor, group: Tensor, *, scale_by_std: bool, eps: float = 1e-6
) -> Tensor:
    """Return ``A_u = r_u - mean(r_group)``, divided by ``std(r_group) + eps`` if asked to.

    GRPO as in DeepSeekMath (Shao et al. 2024, arXiv:2402.03300, section 4.1.2) scales by the
    standard deviation, here that of the population (divisor ``n``); Dr. GRPO (Liu et al. 2025,
    arXiv:2503.20783) does not. A group whose rewards are all equal gives exactly 0, whatever the
    rounding of its mean, and so does a group of which one episode is left.

    Args:
        rewards: [U] float, reward of each agent-episode.
        group: [U] int >= 0; agent-episodes with the same number are compared with each other.
        scale_by_std: Whether to divide by the group's standard deviation.
        eps: Added to the standard deviation.

    Returns:
        [U] advantages in the type of ``rewards``.

    Example: rewards ``[1, 0, 0, 1]`` in one group give ``[.5, -.5, -.5, .5]``. That the second
    episode was cut into three rows changes nothing: it is one agent-episode.
    """
    require_same_shape(rewards, group)
    if rewards.numel() == 0:
        return rewards.clone()
    groups = int(group.max()) + 1
    members = torch.bincount(group, minlength=groups).to(rewards.dtype)
    zeros = rewards.new_zeros(groups)
    mean = zeros.index_add(0, group, rewards) / members
    centred = rewards - mean[group]
    lowest = zeros.scatter_reduce(0, group, rewards, "amin", include_self=False)
    highest = zeros.scatter_reduce(0, group, rewards, "amax", include_self=False)
    advantages = torch.where((lowest == highest)[group], torch.zeros_like(centred), centred)
    if scale_by_std:
        std = (zeros.index_add(0, group, centred.square()) / members).sqrt()
        advantages = advantages / (std[group] + eps)
    return advantages

"""Draws tasks until enough groups have something to learn from.

A group whose episodes all earned the same says nothing about which was better. DAPO (Yu et al.
2025, arXiv:2503.14476, section 3.2) draws further tasks in their place, so that the batch keeps its
size while more and more tasks are always solved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from astuner_rl.types import EpisodeStatus, Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The groups of one step."""

    used: tuple[Group, ...]
    """To be trained on, in the order in which they were drawn."""
    unused: tuple[Group, ...]
    """Those whose episodes agree, or that were one too many."""
    draws: int


async def draw_groups(
    draw: Callable[[int], Awaitable[list[Group]]],
    *,
    wanted: int,
    most_draws: int,
    trainable: Collection[str] | None,
) -> Drawn:
    """Draw until ``wanted`` groups differ within themselves, ``most_draws`` times at most.

    Example: of 4 groups wanted, the first draw gives 3 that differ and the second 2: the first 4 of
    them are used. If no group differs after the last draw, all of the first draw are used, so that
    the step still has its figures.

    Args:
        draw: Given the number of the draw, from 0, runs that many tasks' groups.
        wanted: Groups of a batch.
        most_draws: 1 takes the first draw as it is.
        trainable: Roles that learn; None for all.
    """
    drawn = await draw(0)
    if most_draws == 1:
        return Drawn(used=tuple(drawn), unused=(), draws=1)
    first = drawn
    draws = 1
    while sum(differs(group, trainable=trainable) for group in drawn) < wanted:
        if draws == most_draws:
            break
        drawn = drawn + await draw(draws)
        draws += 1
    used = [group for group in drawn if differs(group, trainable=trainable)][:wanted] or first
    chosen = {id(group) for group in used}
    unused = tuple(group for group in drawn if id(group) not in chosen)
    return Drawn(used=tuple(used), unused=unused, draws=draws)


def differs(group: Group, *, trainable: Collection[str] | None) -> bool:
    """Return whether two agents of one trained role earned different rewards in the group."""
    rewards: defaultdict[str, set[float]] = defaultdict(set)
    for episode in group.episodes:
        if episode.status is EpisodeStatus.FAILED:
            continue
        for record in episode.calls:
            role = record.call.role
            if trainable is None or role in trainable:
                rewards[role].add(episode.rewards[record.call.agent])
    return any(len(earned) > 1 for earned in rewards.values())

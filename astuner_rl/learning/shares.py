"""Which rank trains which rows of a batch, so that all of them have as much to feed.

Rows are put in the order of their tokens, in which those that begin alike are neighbours, and cut
into stretches, one a rank. What rows of one stretch have in common is fed once; what is common
across a cut is fed on both sides of it, and counted so. The stretches are those whose largest cost
is least: a tree is cut only where that is faster than to leave it whole.

Example: a prompt of 6 tokens with four replies of 4, and two ranks. The whole tree has 22 tokens to
feed; two replies with their prompt have 14, which is what each rank is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from astuner_rl.learning.forest import common_prefix
from astuner_rl.learning.layout import Row


def balanced_shares(rows: Sequence[Row], *, ranks: int, merges: bool) -> list[list[Row]]:
    """Return the rows of each rank, in their order; some have none if there are few rows.

    Args:
        rows: In canonical order; the result is a function of it alone.
        ranks: How many.
        merges: Whether the layout feeds what rows have in common only once.
    """
    contexts = [np.array(row.fed, dtype=np.int64) for row in rows]
    # Ids whose highest byte comes first sort as bytes in the order of the tokens.
    order = sorted(range(len(rows)), key=lambda index: contexts[index].astype(">i8").tobytes())
    alone = [len(contexts[index]) for index in order]
    after = alone.copy()
    if merges:
        for place in range(1, len(order)):
            after[place] -= common_prefix(contexts[order[place - 1]], contexts[order[place]])
    low, high = max(alone, default=0), sum(alone)
    while low < high:
        bound = (low + high) // 2
        if len(_stretches(alone, after, bound)) <= ranks:
            high = bound
        else:
            low = bound + 1
    shares = [
        [rows[index] for index in sorted(order[start:stop])]
        for start, stop in _stretches(alone, after, low)
    ]
    return shares + [[] for _ in range(ranks - len(shares))]


def _stretches(alone: Sequence[int], after: Sequence[int], bound: int) -> list[tuple[int, int]]:
    """Return the fewest stretches none of which costs more than ``bound``.

    Args:
        alone: [R] tokens of each row where it is the first of a stretch.
        after: [R] tokens of each row beside the one before it.
        bound: At least the largest of ``alone``.
    """
    stretches: list[tuple[int, int]] = []
    start, filled = 0, 0
    for place in range(len(alone)):
        if place > start and filled + after[place] > bound:
            stretches.append((start, place))
            start = place
        filled = alone[place] if place == start else filled + after[place]
    if alone:
        stretches.append((start, len(alone)))
    return stretches

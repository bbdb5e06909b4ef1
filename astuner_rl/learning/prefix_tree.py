"""The size of a prefix tree, counted without building it: the least that can be fed.

Sorted rows stand beside those with which they have most in common, so the tree grows by what each
row does not share with the one before. Example: of ``1 2 a b``, ``1 2 a c`` and ``1 2 d`` the
first brings 4 tokens, the second 1 and the third 1: the tree has 6.

Every forest is checked against this count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from astuner_rl.learning.forest import common_prefix
from astuner_rl.learning.layout import Row


def prefix_tree_tokens(rows: Sequence[Row]) -> int:
    """Return how many different contexts there are in what ``rows`` have to be fed."""
    # Ids whose highest byte comes first sort as bytes in the order of the tokens.
    contexts = sorted(np.array(row.fed, dtype=">i8").tobytes() for row in rows)
    total = 0
    previous = np.array([], dtype=np.int64)
    for context in contexts:
        tokens = np.frombuffer(context, dtype=">i8").astype(np.int64)
        total += len(tokens) - common_prefix(previous, tokens)
        previous = tokens
    return total

"""How many tokens an update was fed, and how many it would have been fed otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from astuner_rl.learning.layout import Microbatch, Row
from astuner_rl.learning.prefix_tree import prefix_tree_tokens


@dataclass(slots=True)
class FedTokens:
    """Tokens of some forward passes."""

    forward: int = 0
    """Padding left out."""
    padding: int = 0

    def add(self, microbatch: Microbatch) -> None:
        """Count one more pass."""
        self.forward += microbatch.fed_tokens
        self.padding += microbatch.input_ids.numel() - microbatch.fed_tokens


def fed_metrics(
    fed: Iterable[FedTokens], *, rows: Sequence[Row], dense_tokens: int
) -> dict[str, float]:
    """Return the metrics of what was fed.

    ``tokens/forward`` and ``tokens/padding`` were fed; ``tokens/bound`` is the least that could
    have been, the prefix tree of the calls, ``tokens/recomputed`` what was fed beyond that, and
    ``tokens/dense`` what one row a call would have been fed.

    Args:
        fed: Of one pass over the batch.
        rows: That the pass read.
        dense_tokens: Of their calls.
    """
    counts = list(fed)
    forward = sum(count.forward for count in counts)
    bound = prefix_tree_tokens(rows)
    return {
        "tokens/forward": forward,
        "tokens/recomputed": forward - bound,
        "tokens/padding": sum(count.padding for count in counts),
        "tokens/bound": bound,
        "tokens/dense": dense_tokens,
    }

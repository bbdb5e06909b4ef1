"""How rows of tokens become forward passes: the seam behind which the cut may change.

A row says which of its hidden states are to be read and under which number (*slot*) each reading is
filed. A layout turns rows into micro-batches that hold the same readings. What is computed
from the readings is a sum over slots, so its value and gradient do not depend on the layout.
Micro-batches may go on from one another, so all of them are run in their order, by one
``tree_run.TreeRun``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Tokens that extend each other, and the states to read among them."""

    token_ids: tuple[int, ...]
    """[T]."""
    reads: tuple[int, ...]
    """[R] at least one; positions whose hidden state is read: the state at ``p`` has seen
    ``token_ids[:p+1]`` and predicts the token at ``p + 1``."""
    slots: tuple[int, ...]
    """[R] number under which each reading is filed; unique over all rows."""

    @property
    def fed(self) -> tuple[int, ...]:
        """What a forward pass has to be fed: nothing after the last state that is read."""
        return self.token_ids[: max(self.reads) + 1]


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens ``start:stop`` of a packed forest, and what is below it, ``stop:end``."""

    start: int
    stop: int
    end: int
    depth: int
    """Position of the first token in its context."""


Branching = tuple[Segment, ...]
"""The segments of a packed forest, depth first, without a gap between them.

A token sees those before it in its segment, and all tokens of the segments above: token ``k`` is
seen by ``q`` if ``k <= q < end``, where ``end`` is that of the segment of ``k``. A segment with
nothing above it in its pass goes on from the first ``depth`` tokens that the pass is given from
above; it and what is below it see all of these.
"""


def trees(branching: Branching) -> list[Segment]:
    """Return the segments with nothing above them in their pass, in order."""
    tops: list[Segment] = []
    for segment in branching:
        if not tops or segment.start >= tops[-1].end:
            tops.append(segment)
    return tops


def tokens_above(branching: Branching) -> int:
    """Return how many tokens a pass is given from above."""
    return max(tree.depth for tree in trees(branching))


def by_token(branching: Branching, values: Sequence[int]) -> Tensor:
    """Return [T] int64: for each token the value of its segment."""
    lengths = torch.tensor([segment.stop - segment.start for segment in branching])
    return torch.tensor(values).repeat_interleave(lengths)


def token_depths(branching: Branching) -> Tensor:
    """Return [T] int64: position of each token in its context."""
    starts = by_token(branching, [segment.start for segment in branching])
    depths = by_token(branching, [segment.depth for segment in branching])
    return depths + torch.arange(branching[-1].stop) - starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Microbatch:
    """One forward pass."""

    input_ids: Tensor
    """[B, T] int64."""
    position_ids: Tensor
    """[B, T] int64, place of each token in its context."""
    branching: Branching | None
    """Which tokens see each other where a row holds a forest, depth first; None where every token
    sees all tokens before it in its row."""
    reads: Tensor
    """[R] int64, indices of hidden states after ``[B, T, H]`` is flattened to ``[B * T, H]``."""
    slots: Tensor
    """[R] int64, slot of each reading."""
    fed_tokens: int
    """Tokens of the pass, padding left out."""
    level: int = 0
    """How many passes it goes on from, each from the one before: of those run before it, the latest
    of each lower level."""
    carries: bool = False
    """Whether the passes that follow, up to the next of its level or a lower one, go on from it."""

    def to(self, device: torch.device) -> Microbatch:
        """Return the same pass on ``device``."""
        return Microbatch(
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
            branching=self.branching,
            reads=self.reads.to(device),
            slots=self.slots.to(device),
            fed_tokens=self.fed_tokens,
            level=self.level,
            carries=self.carries,
        )


class Layout(Protocol):
    """Turns rows into micro-batches."""

    def __call__(self, rows: Sequence[Row], *, microbatch_tokens: int) -> list[Microbatch]:
        """Return micro-batches that together hold every reading of ``rows`` exactly once.

        Args:
            rows: In canonical order; the result is a function of it alone.
            microbatch_tokens: Tokens, padding included, of one forward pass and of those that it
                goes on from, as far as rows are not longer than that.
        """
        ...


MOST_PADDING = 256
"""Tokens of padding in one micro-batch: beyond that another forward pass costs less."""


def padded_rows(rows: Sequence[Row], *, microbatch_tokens: int) -> list[Microbatch]:
    """Sort rows by length, longest first, and pad each micro-batch on the right.

    Causal attention never looks to the right, so what is padded needs no mask. A micro-batch ends
    where the next row would break ``microbatch_tokens`` or bring more than ``MOST_PADDING``.

    Example: rows of 5, 2 and 4 tokens with ``microbatch_tokens=10`` give ``[2, 5]`` (one pad) and
    ``[1, 2]``.
    """
    microbatches = []
    pending: list[Row] = []
    padding = 0
    for row in sorted(rows, key=lambda row: -len(row.fed)):
        if pending:
            width = len(pending[0].fed)
            padding += width - len(row.fed)
            if (len(pending) + 1) * width > microbatch_tokens or padding > MOST_PADDING:
                microbatches.append(_pad(pending))
                pending, padding = [], 0
        pending.append(row)
    if pending:
        microbatches.append(_pad(pending))
    return microbatches


def _pad(rows: Sequence[Row]) -> Microbatch:
    width = len(rows[0].fed)
    input_ids = [row.fed + (0,) * (width - len(row.fed)) for row in rows]
    reads = [line * width + read for line, row in enumerate(rows) for read in row.reads]
    slots = [slot for row in rows for slot in row.slots]
    return Microbatch(
        input_ids=torch.tensor(input_ids, dtype=torch.int64),
        position_ids=torch.arange(width).expand(len(rows), width),
        branching=None,
        reads=torch.tensor(reads, dtype=torch.int64),
        slots=torch.tensor(slots, dtype=torch.int64),
        fed_tokens=sum(len(row.fed) for row in rows),
    )

"""Packs a forest into forward passes, one row of tokens each, cut only where it does not fit.

A tree that does not fit is cut between the children of a node. Every piece then needs the tokens
above it: they are computed again in each, so that the gradient flows through them as it does in one
pass, and all but the first time they count as recomputed.

Example: a prompt of 6 tokens with three replies of 3, ``microbatch_tokens=12``: the tree has 15
tokens, so one pass feeds prompt and two replies, and a second one the prompt again and the third.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel

from astuner_rl.learning.forest import Forest, build_forest
from astuner_rl.learning.layout import Layout, Microbatch, Row, Segment, padded_rows
from astuner_rl.learning.prefix_tree import prefix_tree_tokens
from astuner_rl.samplers.families import misfit

logger = logging.getLogger(__name__)


def layout_of(model: PreTrainedModel) -> Layout:
    """Return ``forest_passes``, or rows where there is no attention over a forest.

    That is on a device other than a CPU, where calls that extend each other still share a row, and
    for a model whose attention cannot be replaced, of which every call is a row.
    """
    why = misfit(model.config.get_text_config())
    if why is None and model.device.type == "cpu":
        return forest_passes
    if why is None:
        logger.warning("on %s episodes of a group do not share their prompt yet", model.device.type)
        return padded_rows
    logger.warning(
        "every call is trained as a row of its own, shared tokens again for each: %s", why
    )
    return call_rows


def call_rows(rows: Sequence[Row], *, microbatch_tokens: int) -> list[Microbatch]:
    """Return passes in which every call has a row of its own; see ``Layout``."""
    return padded_rows(one_row_a_call(rows), microbatch_tokens=microbatch_tokens)


def one_row_a_call(rows: Sequence[Row]) -> list[Row]:
    """Cut rows behind every reading that the next position does not go on with.

    Example: a row ``1 2 a 3 b`` that is read at 1 and 3 becomes ``1 2 a`` and ``1 2 a 3 b``, of
    which ``1 2`` and ``1 2 a 3`` have to be fed.
    """
    calls: list[Row] = []
    for row in rows:
        first = 0
        for place in range(1, len(row.reads) + 1):
            if place == len(row.reads) or row.reads[place] != row.reads[place - 1] + 1:
                calls.append(
                    Row(
                        token_ids=row.token_ids[: row.reads[place - 1] + 2],
                        reads=row.reads[first:place],
                        slots=row.slots[first:place],
                    )
                )
                first = place
    return calls


def forest_passes(rows: Sequence[Row], *, microbatch_tokens: int) -> list[Microbatch]:
    """Return passes that feed every context of ``rows`` once, if all of them fit; see ``Layout``.

    Args:
        rows: In canonical order.
        microbatch_tokens: Tokens of one pass; a path from root to leaf that is longer runs alone.

    Raises:
        RuntimeError: A context is left out or fed twice without being counted as recomputed: a
            defect of this module, which must not become a gradient.
    """
    forest = build_forest(rows)
    packer = _Packer(forest)
    passes = [packer.pack(piece) for piece in _pieces(forest, microbatch_tokens)]
    fed_once = sum(one.fed_tokens - one.recomputed_tokens for one in passes)
    if fed_once != prefix_tree_tokens(rows):
        raise RuntimeError(
            f"a forest must feed its {prefix_tree_tokens(rows)} contexts once, but feeds {fed_once}"
        )
    return passes


def _pieces(forest: Forest, budget: int) -> Iterator[list[int]]:
    """Yield node indices, ascending, of pieces that hold every node, each with all above it."""
    nodes = forest.nodes
    own = [len(node.token_ids) for node in nodes]
    subtree = own.copy()
    children: list[list[int]] = [[] for _ in nodes]
    roots: list[int] = []
    for index in reversed(range(len(nodes))):
        parent = nodes[index].parent
        if parent is None:
            roots.append(index)
        else:
            subtree[parent] += subtree[index]
            children[parent].append(index)

    # What is above, its tokens, and the nodes below it, last first.
    waiting: list[tuple[list[int], int, list[int]]] = [([], 0, roots)]
    while waiting:
        above, size, below = waiting.pop()
        piece: list[int] = []
        filled = size
        # Nothing is below a leaf, which is then a piece by itself.
        if above and not below:
            yield above
        for index in reversed(below):
            if size + subtree[index] > budget:
                waiting.append(([*above, index], size + own[index], children[index]))
                continue
            if piece and filled + subtree[index] > budget:
                yield above + piece
                piece, filled = [], size
            piece += range(index, nodes[index].last + 1)
            filled += subtree[index]
        if piece:
            yield above + piece


class _Packer:
    """Lays out pieces, and remembers which nodes were in one before."""

    def __init__(self, forest: Forest) -> None:
        self._nodes = forest.nodes
        self._packed: set[int] = set()

    def pack(self, piece: Sequence[int]) -> Microbatch:
        token_ids: list[int] = []
        positions: list[int] = []
        reads: list[int] = []
        slots: list[int] = []
        starts: list[int] = []
        recomputed = 0
        for index in piece:
            node = self._nodes[index]
            starts.append(len(token_ids))
            # Readings are taken where a node is computed first.
            if index in self._packed:
                recomputed += len(node.token_ids)
            else:
                reads += [len(token_ids) + read for read in node.reads]
                slots += node.slots
            token_ids += node.token_ids
            positions += range(node.depth, node.depth + len(node.token_ids))
        self._packed.update(piece)
        return Microbatch(
            input_ids=torch.tensor([token_ids], dtype=torch.int64),
            position_ids=torch.tensor([positions], dtype=torch.int64),
            branching=self._branching(piece, starts, len(token_ids)),
            reads=torch.tensor(reads, dtype=torch.int64),
            slots=torch.tensor(slots, dtype=torch.int64),
            fed_tokens=len(token_ids),
            recomputed_tokens=recomputed,
        )

    def _branching(
        self, piece: Sequence[int], starts: Sequence[int], tokens: int
    ) -> tuple[Segment, ...]:
        stops = [*starts[1:], tokens]
        segments = []
        for place, index in enumerate(piece):
            last = bisect_right(piece, self._nodes[index].last) - 1
            segments.append(
                Segment(
                    start=starts[place],
                    stop=stops[place],
                    end=stops[last],
                    depth=self._nodes[index].depth,
                )
            )
        return tuple(segments)

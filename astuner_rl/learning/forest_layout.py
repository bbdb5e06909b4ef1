"""Packs a forest into forward passes, one row of tokens each, cut only where it does not fit.

A tree that does not fit is cut between the children of a node: what is above becomes a pass of its
own, and those below go on from its keys and values (``learning.tree_run``). So every token is fed
once, however small the passes are.

Example: a prompt of 6 tokens with three replies of 3, ``microbatch_tokens=12``: the tree has 15
tokens, so one pass feeds the prompt, a second one two replies and a third the last reply, both of
which see the prompt.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from astuner_rl.learning.forest import Forest, Node, build_forest
from astuner_rl.learning.layout import Layout, Microbatch, Row, Segment, padded_rows
from astuner_rl.learning.prefix_tree import prefix_tree_tokens
from astuner_rl.samplers.families import misfit

logger = logging.getLogger(__name__)


def layout_of(model: PreTrainedModel) -> Layout:
    """Return ``forest_passes``, or rows where there is no attention over a forest.

    That is on a device other than a CPU or a CUDA GPU, where calls that extend each other still
    share a row, and for a model whose attention cannot be replaced, of which every call is a row.
    """
    why = misfit(model.config.get_text_config())
    if why is None and model.device.type in ("cpu", "cuda"):
        return forest_passes
    if why is None:
        logger.warning("on %s episodes of a group do not share their prompt", model.device.type)
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
    """Return passes that feed every context of ``rows`` once; see ``Layout``.

    Args:
        rows: In canonical order.
        microbatch_tokens: Tokens of one pass and of all that it goes on from; a run of tokens
            without a branch is never cut, however long it is.

    Raises:
        RuntimeError: A context is left out or fed twice: a defect of this module, which must not
            become a gradient.
    """
    forest = build_forest(rows)
    passes = [_pack(forest.nodes, piece) for piece in _pieces(forest, microbatch_tokens)]
    fed = sum(one.fed_tokens for one in passes)
    if fed != prefix_tree_tokens(rows):
        raise RuntimeError(
            f"a forest must feed its {prefix_tree_tokens(rows)} contexts once, but feeds {fed}"
        )
    return passes


@dataclass(frozen=True, slots=True)
class _Piece:
    """Nodes of one pass."""

    nodes: Sequence[int]
    """Whole subtrees side by side, or a single node whose subtree does not fit."""
    level: int
    carries: bool


def _pieces(forest: Forest, budget: int) -> Iterator[_Piece]:
    """Yield the passes, each after those that it goes on from; every node is in one of them."""
    nodes = forest.nodes
    subtree = [len(node.token_ids) for node in nodes]
    children: list[list[int]] = [[] for _ in nodes]
    roots: list[int] = []
    for index in reversed(range(len(nodes))):
        parent = nodes[index].parent
        if parent is None:
            roots.append(index)
        else:
            subtree[parent] += subtree[index]
            children[parent].append(index)

    # A node to cut below and its level, or -1 for what is above all roots; tokens above its
    # children; and these, last first.
    waiting: list[tuple[int, int, int, list[int]]] = [(-1, -1, 0, roots)]
    while waiting:
        node, level, above, below = waiting.pop()
        if node >= 0:
            yield _Piece([node], level, carries=bool(below))
        piece: list[int] = []
        filled = above
        for index in reversed(below):
            if above + subtree[index] > budget:
                size = above + len(nodes[index].token_ids)
                waiting.append((index, level + 1, size, children[index]))
                continue
            if piece and filled + subtree[index] > budget:
                yield _Piece(piece, level + 1, carries=False)
                piece, filled = [], above
            piece += range(index, nodes[index].last + 1)
            filled += subtree[index]
        if piece:
            yield _Piece(piece, level + 1, carries=False)


def _pack(nodes: Sequence[Node], piece: _Piece) -> Microbatch:
    token_ids: list[int] = []
    positions: list[int] = []
    reads: list[int] = []
    slots: list[int] = []
    starts: list[int] = []
    for index in piece.nodes:
        node = nodes[index]
        starts.append(len(token_ids))
        reads += [len(token_ids) + read for read in node.reads]
        slots += node.slots
        token_ids += node.token_ids
        positions += range(node.depth, node.depth + len(node.token_ids))
    stops = [*starts[1:], len(token_ids)]
    return Microbatch(
        input_ids=torch.tensor([token_ids], dtype=torch.int64),
        position_ids=torch.tensor([positions], dtype=torch.int64),
        branching=tuple(
            Segment(
                start=starts[place],
                stop=stops[place],
                end=stops[bisect_right(piece.nodes, nodes[index].last) - 1],
                depth=nodes[index].depth,
            )
            for place, index in enumerate(piece.nodes)
        ),
        reads=torch.tensor(reads, dtype=torch.int64),
        slots=torch.tensor(slots, dtype=torch.int64),
        fed_tokens=len(token_ids),
        level=piece.level,
        carries=piece.carries,
    )

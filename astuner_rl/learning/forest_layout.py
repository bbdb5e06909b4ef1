"""Packs a forest into forward passes, one row of tokens each, cut only where it does not fit.

A tree that does not fit is cut along its *spine*: from its root down, always into the heaviest
child, until what is left fits. The spine becomes a pass of its own, and what branches off it
becomes passes that go on from its keys and values (``learning.tree_run``), each from where it
branched off. So every token is fed once, however small the passes are.

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

LEAST_ROOM = 4
"""A pass beside a spine that takes all the tokens may still have this part of them: else each of
its branches, however short, would be a pass of its own."""


def layout_of(model: PreTrainedModel) -> Layout:
    """Return ``forest_passes``, or rows on a device other than a CPU or for some models.

    On a GPU the forest (``flex_tree_attention``) is faster where a group shares a prompt, but takes
    more memory and is slower for one long conversation (docs/exactness.md), so it is used where a
    caller asks for it; in rows, calls that extend each other still share one. Of a model whose
    attention cannot be replaced every call is a row.
    """
    why = misfit(model.config.get_text_config())
    if why is None and model.device.type == "cpu":
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
        microbatch_tokens: Tokens of one pass and of all that it goes on from. A spine is never cut,
            however long it is; beside a long one a pass has ``1 / LEAST_ROOM`` of the tokens.

    Raises:
        RuntimeError: A context is left out or fed twice: a defect of this module, which must not
            become a gradient.
    """
    forest = build_forest(rows)
    passes = [_pack(forest.nodes, piece) for piece in _pieces(forest, microbatch_tokens)]
    fed, bound = sum(one.fed_tokens for one in passes), prefix_tree_tokens(rows)
    if fed != bound:
        raise RuntimeError(f"a forest must feed its {bound} contexts once, but feeds {fed}")
    return passes


@dataclass(frozen=True, slots=True)
class _Piece:
    """Nodes of one pass, ascending."""

    nodes: Sequence[int]
    """Whole subtrees, or a spine."""
    level: int
    carries: bool


def _pieces(forest: Forest, budget: int) -> Iterator[_Piece]:
    """Yield the passes, each after those that it goes on from; every node is in one of them."""
    weights = _Weights(forest.nodes)
    # Spines to begin: the level of their pass, the tokens that it goes on from, and their root;
    # None stands for a spine without tokens, from which all trees branch off.
    waiting: list[tuple[int, int, int | None]] = [(0, 0, None)]
    while waiting:
        level, held, root = waiting.pop()
        branches = weights.roots
        if root is not None:
            spine, branches = weights.spine(root, held=held, budget=budget)
            yield _Piece(spine, level, carries=bool(branches))
            level += 1
            held += sum(weights.own[index] for index in spine)
        room = _room(budget, held)
        too_large: list[int] = []
        piece: list[int] = []
        filled = 0
        for index in branches:
            if weights.subtree[index] > room:
                too_large.append(index)
                continue
            if piece and filled + weights.subtree[index] > room:
                yield _Piece(piece, level, carries=False)
                piece, filled = [], 0
            piece += range(index, forest.nodes[index].last + 1)
            filled += weights.subtree[index]
        if piece:
            yield _Piece(piece, level, carries=False)
        waiting += ((level, held, index) for index in reversed(too_large))


def _room(budget: int, held: int) -> int:
    """Return the tokens of a pass that goes on from ``held`` tokens."""
    return max(budget - held, budget // LEAST_ROOM)


class _Weights:
    """How many tokens there are in and below each node."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.own = [len(node.token_ids) for node in nodes]
        self.subtree = self.own.copy()
        self.roots: list[int] = []
        self._children: list[list[int]] = [[] for _ in nodes]
        for index in reversed(range(len(nodes))):
            parent = nodes[index].parent
            if parent is not None:
                self.subtree[parent] += self.subtree[index]
        for index, node in enumerate(nodes):
            siblings = self.roots if node.parent is None else self._children[node.parent]
            siblings.append(index)

    def spine(self, root: int, *, held: int, budget: int) -> tuple[list[int], list[int]]:
        """Return the nodes of the spine from ``root`` and the roots of what branches off it."""
        spine = [root]
        branches: list[int] = []
        held += self.own[root]
        while below := self._children[spine[-1]]:
            heaviest = max(below, key=lambda index: self.subtree[index])
            if self.subtree[heaviest] <= _room(budget, held):
                branches += below
                break
            branches += (index for index in below if index != heaviest)
            spine.append(heaviest)
            held += self.own[heaviest]
        return spine, sorted(branches)


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
    segments: list[Segment] = []
    for place, index in enumerate(piece.nodes):
        start, depth = starts[place], nodes[index].depth
        end = stops[bisect_right(piece.nodes, nodes[index].last) - 1]
        if segments and segments[-1].stop == start and segments[-1].end == end:
            # The only child that is in this pass: its tokens simply go on, as along a spine.
            start, depth = segments[-1].start, segments.pop().depth
        segments.append(Segment(start=start, stop=stops[place], end=end, depth=depth))
    return Microbatch(
        input_ids=torch.tensor([token_ids], dtype=torch.int64),
        position_ids=torch.tensor([positions], dtype=torch.int64),
        branching=tuple(segments),
        reads=torch.tensor(reads, dtype=torch.int64),
        slots=torch.tensor(slots, dtype=torch.int64),
        fed_tokens=len(token_ids),
        level=piece.level,
        carries=piece.carries,
    )

"""The lineage forest: the rows of a batch as a prefix forest, in which no token stands twice.

Worked example. Two episodes of one task share the prompt ``1 2``; letters are sampled, digits are
context, and the last token of a row is only predicted, never fed:

    row 0: 1 2 a b 3 c      sampled a b (slots 0, 1) and c (slot 2)
    row 1: 1 2 a d 4 e      sampled a d (slots 3, 4) and e (slot 5)

What has to be fed is ``1 2 a b 3`` and ``1 2 a d 4``. As a forest:

    node 0: 1 2 a           the state after 2 is read for slots 0 and 3, that after a for 1 and 4
    node 1:   b 3           goes on from node 0; the state after 3 is read for slot 2
    node 2:   d 4           goes on from node 0; the state after 4 is read for slot 5

The rows have 10 tokens to feed, the forest has 7. The state after ``1 2`` is the same in both
episodes, so both read it, each for its own loss. Merging goes by token ids alone: calls that differ
in one token of their arguments part at that token.

A node holds a run of tokens without a branch inside. Nodes stand in depth-first order, so that a
node's descendants follow it without a gap.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from astuner_rl.learning.layout import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A run of tokens that the same rows begin with."""

    parent: int | None
    """Index of the node that it goes on from; None at the beginning of rows."""
    last: int
    """Index of its last descendant, its own where it has none."""
    depth: int
    """Position of its first token in every row that it is part of."""
    token_ids: tuple[int, ...]
    """[T] at least one."""
    reads: tuple[int, ...]
    """[R] place in ``token_ids`` of the state that each reading takes."""
    slots: tuple[int, ...]
    """[R] slot of each reading."""


@dataclass(frozen=True, slots=True)
class Forest:
    """Every row of a batch as a path from a root, depth first."""

    nodes: tuple[Node, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens: the size of the prefix tree of all that has to be fed."""
        return sum(len(node.token_ids) for node in self.nodes)


def build_forest(rows: Sequence[Row]) -> Forest:
    """Merge what rows have in common at their beginnings, in time linear in their tokens.

    Args:
        rows: In canonical order; siblings keep it, so the result is a function of it alone.

    Raises:
        RuntimeError: A row is not a path of the result, token for token, or a reading is not in it:
            a defect of this module, which must not become a gradient.
    """
    growing = _Growing()
    contexts = [np.array(row.fed, dtype=np.int64) for row in rows]
    for context in contexts:
        growing.insert(context)
    for row, context in zip(rows, contexts, strict=True):
        growing.file(row, context)
    forest = Forest(growing.depth_first())
    filed = sum(len(node.slots) for node in forest.nodes)
    readings = sum(len(row.slots) for row in rows)
    if filed != readings:
        raise RuntimeError(f"the forest must hold {readings} readings, but holds {filed}")
    return forest


@dataclass(slots=True, eq=False)
class _Branch:
    """A node that may still be split."""

    parent: _Branch | None
    depth: int
    tokens: NDArray[np.int64]
    children: dict[int, _Branch] = field(default_factory=dict)
    """By first token."""
    reads: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)


class _Growing:
    """A forest to which rows are added."""

    def __init__(self) -> None:
        self._roots: dict[int, _Branch] = {}

    def insert(self, tokens: NDArray[np.int64]) -> None:
        """Make the row [T] a path."""
        parent: _Branch | None = None
        children = self._roots
        depth = 0
        while True:
            branch = children.get(int(tokens[depth]))
            if branch is None:
                branch = _Branch(parent, depth, tokens[depth:])
                children[int(tokens[depth])] = branch
                return
            common = common_prefix(branch.tokens, tokens[depth:])
            depth += common
            if depth == len(tokens):
                return
            if common < len(branch.tokens):
                _split(branch, common)
            parent, children = branch, branch.children

    def file(self, row: Row, tokens: NDArray[np.int64]) -> None:
        """Give the readings of a row, which was inserted, to the nodes on its path."""
        children = self._roots
        depth = 0
        first = 0
        while depth < len(tokens):
            branch = children.get(int(tokens[depth]))
            within = 0 if branch is None else min(len(branch.tokens), len(tokens) - depth)
            if branch is None or not np.array_equal(
                branch.tokens[:within], tokens[depth : depth + within]
            ):
                raise RuntimeError(f"the forest has lost a row at its token {depth}")
            depth += within
            until = bisect_left(row.reads, depth, lo=first)
            branch.reads += [read - branch.depth for read in row.reads[first:until]]
            branch.slots += row.slots[first:until]
            first = until
            children = branch.children

    def depth_first(self) -> tuple[Node, ...]:
        """Return the nodes, siblings in the order in which they came."""
        order: list[_Branch] = []
        waiting = list(reversed(self._roots.values()))
        while waiting:
            branch = waiting.pop()
            order.append(branch)
            waiting += reversed(branch.children.values())
        index = {id(branch): number for number, branch in enumerate(order)}
        last = list(range(len(order)))
        for number in reversed(range(len(order))):
            parent = order[number].parent
            if parent is not None:
                last[index[id(parent)]] = max(last[index[id(parent)]], last[number])
        return tuple(
            Node(
                parent=None if branch.parent is None else index[id(branch.parent)],
                last=last[number],
                depth=branch.depth,
                token_ids=tuple(branch.tokens.tolist()),
                reads=tuple(branch.reads),
                slots=tuple(branch.slots),
            )
            for number, branch in enumerate(order)
        )


def common_prefix(left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Return with how many equal tokens two rows, [T] each, begin."""
    shorter = min(len(left), len(right))
    differs = left[:shorter] != right[:shorter]
    return int(differs.argmax()) if differs.any() else shorter


def _split(branch: _Branch, at: int) -> None:
    """Cut a branch in two: it keeps its first tokens and gets one child with the others."""
    rest = _Branch(branch, branch.depth + at, branch.tokens[at:], branch.children)
    for child in rest.children.values():
        child.parent = rest
    branch.tokens = branch.tokens[:at]
    branch.children = {int(rest.tokens[0]): rest}

"""The forest holds every context once, and every reading in its own context."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.learning.forest import Forest, Node, build_forest
from astuner_rl.learning.layout import Row

A, B, C, D, E = 11, 12, 13, 14, 15


def test_the_worked_example():
    forest = build_forest(
        [
            Row(token_ids=(1, 2, A, B, 3, C), reads=(1, 2, 4), slots=(0, 1, 2)),
            Row(token_ids=(1, 2, A, D, 4, E), reads=(1, 2, 4), slots=(3, 4, 5)),
        ]
    )
    assert forest == Forest(
        (
            Node(
                parent=None,
                last=2,
                depth=0,
                token_ids=(1, 2, A),
                reads=(1, 2, 1, 2),
                slots=(0, 1, 3, 4),
            ),
            Node(parent=0, last=1, depth=3, token_ids=(B, 3), reads=(1,), slots=(2,)),
            Node(parent=0, last=2, depth=3, token_ids=(D, 4), reads=(1,), slots=(5,)),
        )
    )
    assert forest.tokens == 7


def test_a_row_that_ends_within_another_needs_no_node():
    (node,) = build_forest(
        [
            Row(token_ids=(1, 2, 3, 4), reads=(2,), slots=(0,)),
            Row(token_ids=(1, 2, 5), reads=(1,), slots=(1,)),
        ]
    ).nodes
    assert (node.token_ids, node.reads, node.slots) == ((1, 2, 3), (2, 1), (0, 1))


def test_calls_that_differ_in_one_token_of_their_arguments_part_there():
    forest = build_forest(
        [
            Row(token_ids=(1, A, 7, B, 2, C), reads=(4,), slots=(0,)),
            Row(token_ids=(1, A, 8, B, 2, C), reads=(4,), slots=(1,)),
        ]
    )
    assert [node.token_ids for node in forest.nodes] == [(1, A), (7, B, 2), (8, B, 2)]


def test_no_row_gives_an_empty_forest():
    assert build_forest([]) == Forest(())


@st.composite
def random_rows(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    slots = 0
    for _ in range(draw(st.integers(1, 8))):
        token_ids = draw(st.lists(st.integers(0, 1), min_size=2, max_size=12))
        reads = sorted(draw(st.sets(st.integers(0, len(token_ids) - 2), min_size=1)))
        rows.append(
            Row(
                token_ids=tuple(token_ids),
                reads=tuple(reads),
                slots=tuple(range(slots, slots + len(reads))),
            )
        )
        slots += len(reads)
    return rows


@given(rows=random_rows())
def test_it_is_the_prefix_tree_of_what_has_to_be_fed(rows: list[Row]):
    forest = build_forest(rows)
    contexts = {row.fed[: stop + 1] for row in rows for stop in range(len(row.fed))}
    assert forest.tokens == len(contexts)

    paths: list[tuple[int, ...]] = []
    found = {}
    for index, node in enumerate(forest.nodes):
        above = () if node.parent is None else paths[node.parent]
        assert node.depth == len(above)
        assert node.parent is None or node.parent < index <= forest.nodes[node.parent].last
        paths.append(above + node.token_ids)
        for read, slot in zip(node.reads, node.slots, strict=True):
            assert slot not in found
            found[slot] = (*above, *node.token_ids[: read + 1])
    assert found == {
        slot: row.token_ids[: read + 1]
        for row in rows
        for read, slot in zip(row.reads, row.slots, strict=True)
    }

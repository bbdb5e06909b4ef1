"""Labelled examples: which can teach, and how they are split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_gym.errors import TaskDataError
from astuner_gym.rubrics.examples import Example, Examples, LabelKind, read_examples, split


def read(folder: Path, records: Sequence[Mapping[str, object]]) -> Examples:
    path = folder / "examples.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in records), encoding="utf-8")
    return read_examples(path)


def scored(*scores: object, question: str = "Q{}") -> list[dict[str, object]]:
    return [
        {"question": question.format(n), "answer": f"A{n}", "score": score}
        for n, score in enumerate(scores)
    ]


def ranked(*lists: Sequence[str]) -> list[dict[str, object]]:
    return [{"question": f"Q{n}", "ranked": answers} for n, answers in enumerate(lists)]


def test_two_scores_are_good_and_bad(tmp_path: Path) -> None:
    examples = read(tmp_path, scored(*[3, 5] * 12))
    assert examples.kind is LabelKind.BINARY
    assert [each.label for each in examples.examples[:4]] == [0, 1, 0, 1]
    assert read(tmp_path, scored(*[True, False] * 12)).kind is LabelKind.BINARY


def test_more_scores_are_kept_as_they_are(tmp_path: Path) -> None:
    examples = read(tmp_path, scored(*[1, 2, 3.5] * 8))
    assert examples.kind is LabelKind.SCORED
    assert [each.label for each in examples.examples[:3]] == [1, 2, 3.5]


def test_a_list_ranks_its_answers(tmp_path: Path) -> None:
    examples = read(tmp_path, ranked(*[["a", "b", "c"]] * 12))
    assert examples.kind is LabelKind.RANKED
    assert [(each.answer, each.label, each.unit) for each in examples.examples[2:5]] == [
        ("c", -2, 0),
        ("a", 0, 1),
        ("b", -1, 1),
    ]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (scored(*[0, 1] * 11), "at least 24 lines of their own.*got 22"),
        (ranked(*[["a", "b"]] * 11), "at least 12 lines of their own.*got 11"),
        (scored(*[1] * 24), "labels must differ, all 24 are 1"),
        (scored(*[1] * 20, *[0] * 5), "at least 6 answers must have another.*, 1, got 5 of 25"),
        (scored(*[1] * 22, 2, 3), "at least 6 answers must have another.*, 1, got 2 of 24"),
        (scored(*[0, 1] * 12, "2"), "'score' must be a number in every line"),
        (scored(*[0, 1] * 12, None), "'score' must be a number in every line"),
        (ranked(*[["a", "b"]] * 12, ["a"]), "a list of at least two answers"),
        (ranked(*[["a", "b"]] * 12, "ab"), "a list of at least two answers"),
        ([*scored(*[0, 1] * 12), {"question": "Q", "ranked": ["a", "b"]}], "'score' must be"),
        ([{"answer": "a", "score": 1}], "field 'question' is missing"),
    ],
)
def test_labels_that_cannot_teach_are_refused(
    tmp_path: Path, records: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(TaskDataError, match=message):
        read(tmp_path, records)


def test_many_contradictions_are_refused_and_few_left_out(tmp_path: Path) -> None:
    plain = scored(*[0, 1] * 15)
    twice = {"question": "Q0", "answer": "A0", "score": 1}
    examples = read(tmp_path, [*plain, twice])
    assert examples.left_out == 2  # neither label is known to be the right one
    assert all(each.answer != "A0" for each in examples.examples)
    with pytest.raises(TaskDataError, match=r"must not contradict each other, 30 of 45 do.*'A0'"):
        read(tmp_path, [*plain, *({**each, "score": 2} for each in plain[::2])])


def test_what_is_said_twice_is_one_example(tmp_path: Path) -> None:
    plain = scored(*[0, 1] * 15)
    examples = read(tmp_path, [*plain, plain[3], plain[3], plain[8]])
    assert examples.repeated == 3
    assert [each.unit for each in examples.examples] == list(range(30))
    with pytest.raises(TaskDataError, match=r"at least 24 lines of their own.*got 8"):
        read(tmp_path, plain[:8] * 3)


def test_lists_that_rank_the_other_way_round_contradict(tmp_path: Path) -> None:
    lists = ranked(*[["a", "b"]] * 30)
    examples = read(tmp_path, [*lists, {"question": "Q0", "ranked": ["b", "a"]}])
    assert {each.unit for each in examples.examples} == set(range(1, 30))
    assert examples.left_out == 4


@settings(deadline=None)
@given(st.integers(6, 18), st.integers(0, 99))
def test_a_rare_score_is_in_every_part(rare: int, seed: int) -> None:
    labels = [1.0] * rare + [0.0] * (24 - rare)
    examples = Examples(
        kind=LabelKind.BINARY,
        examples=tuple(
            Example(question=f"Q{unit}", answer="", label=label, unit=unit)
            for unit, label in enumerate(labels)
        ),
    )
    for part in split(examples, shares=(0.5, 0.25, 0.25), seed=seed):
        assert {each.label for each in part} == {0, 1}


@settings(deadline=None)
@given(
    st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyzABCDEFGH"), min_size=3, max_size=60),
    st.integers(0, 3),
)
def test_every_example_is_in_one_part_and_questions_stay_together(
    questions: list[str], seed: int
) -> None:
    examples = Examples(
        kind=LabelKind.SCORED,
        examples=tuple(
            Example(question=question, answer="", label=0, unit=unit)
            for unit, question in enumerate(questions)
        ),
    )
    parts = split(examples, shares=(0.5, 0.25, 0.25), seed=seed)
    assert sorted(each.unit for part in parts for each in part) == list(range(len(questions)))
    assert parts == split(examples, shares=(0.5, 0.25, 0.25), seed=seed)
    asked = [{each.question for each in part} for part in parts]
    if len(set(questions)) >= 30:
        assert sum(map(len, asked)) == len(set(questions))

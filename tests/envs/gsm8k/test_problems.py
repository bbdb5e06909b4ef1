"""The generated problems are right, random-access, modest in words, and apart between splits."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_envs.gsm8k.problems import Problem, Problems, Split
from astuner_envs.gsm8k.problems.clauses import Template, clause
from astuner_envs.gsm8k.problems.generator import TRAIN_TEMPLATES, UNSEEN_TEMPLATES

CONSTANTS = {"1", "2", "3", "4", "7", "12", "60", "100"}
"""Numbers told by words: first, half, a third, a quarter, a week, a dozen, an hour, percent."""


@pytest.fixture(scope="module")
def train() -> list[Problem]:
    return list(Problems("train", seed=0, size=12_000))


@pytest.fixture(scope="module")
def heldout() -> list[Problem]:
    return list(Problems("heldout", seed=1, size=2_000))


@pytest.fixture(scope="module")
def unseen() -> list[Problem]:
    return list(Problems("unseen", seed=2, size=1_000))


def words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z]+", text))


@settings(deadline=None)
@given(st.sampled_from(Split), st.integers(0, 5), st.integers(0, 10**9))
def test_steps_are_exact_and_use_what_is_known(split: Split, seed: int, index: int) -> None:
    problem = Problems(split, seed=seed, size=10**9 + 1)[index]
    told = set(re.findall(r"\d+", problem.question))
    for position, step in enumerate(problem.steps):
        left, operator, right = step.expression.split()
        a, b = Fraction(left), Fraction(right)
        values = {"+": a + b, "-": a - b, "*": a * b, "/": a / b}
        assert step.result == values[operator]
        assert 0 < step.result < 10_000
        for literal, source in zip((left, right), step.sources, strict=True):
            if source is None:
                assert literal in told | CONSTANTS
            else:
                assert source < position
                assert int(literal) == problem.steps[source].result
    assert 2 <= len(problem.steps) <= 6
    assert problem.answer == problem.steps[-1].result
    assert all(str(operand) in told for operand in problem.parts.operands)
    assert not set("{}") & set(problem.question)
    assert problem.question.endswith("?")


@settings(deadline=None)
@given(st.sampled_from(Split), st.integers(0, 10**6))
def test_every_step_but_the_last_is_needed(split: Split, index: int) -> None:
    problem = Problems(split, size=10**6 + 1)[index]
    used = {source for step in problem.steps for source in step.sources if source is not None}
    assert used == set(range(len(problem.steps) - 1))


@settings(deadline=None)
@given(st.sampled_from(Split), st.integers(0, 99), st.integers(0, 99))
def test_a_problem_is_a_function_of_split_seed_and_index(split: Split, seed: int, i: int) -> None:
    expected = Problems(split, seed=seed, size=100)[i]
    assert Problems(split, seed=seed, size=10**6)[i] == expected
    assert Problems(split.value, seed=seed, size=100)[i] == expected


def test_another_process_draws_the_same_problem() -> None:
    script = (
        "from astuner_envs.gsm8k.problems import Problems; print(Problems('heldout', seed=3)[7])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert printed == f"{Problems('heldout', seed=3)[7]}\n"


def test_seeds_and_splits_give_other_problems() -> None:
    drawn = [
        Problems(split, seed=seed, size=20)[index].question
        for split in Split
        for seed in range(3)
        for index in range(20)
    ]
    assert len(set(drawn)) == len(drawn)


def test_iteration_and_length_agree_with_indexing() -> None:
    problems = Problems("train", size=5)
    assert list(problems) == [problems[index] for index in range(len(problems))]


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_outside_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=rf"0\.\.4, got {index}"):
        Problems("train", size=5)[index]


def test_an_unknown_split_and_an_empty_size_are_refused() -> None:
    with pytest.raises(ValueError, match="train, heldout, unseen, got 'test'"):
        Problems("test")
    with pytest.raises(ValueError, match="got 0"):
        Problems("train", size=0)


def test_a_record_has_the_format_of_gsm8k(train: list[Problem]) -> None:
    problem = next(p for p in train if len(p.steps) == 2)
    first, second = problem.steps
    assert problem.record == {
        "question": problem.question,
        "answer": (
            f"{first.expression} = <<{first.expression.replace(' ', '')}={first.result}>>"
            f"{first.result}\n"
            f"{second.expression} = <<{second.expression.replace(' ', '')}={second.result}>>"
            f"{second.result}\n"
            f"#### {problem.answer}"
        ),
    }


def test_there_are_many_templates_and_all_are_drawn(
    train: list[Problem], heldout: list[Problem], unseen: list[Problem]
) -> None:
    names = [template.name for template in TRAIN_TEMPLATES]
    new_names = [template.name for template in UNSEEN_TEMPLATES]
    assert len(names) >= 40
    assert len(new_names) >= 8
    assert len({*names, *new_names}) == len(names) + len(new_names)
    assert {p.template for p in train} == {p.template for p in heldout} == set(names)
    assert {p.template for p in unseen} == set(new_names)


def test_every_clause_has_paraphrases_and_kinds_are_unique_in_a_slot() -> None:
    for template in TRAIN_TEMPLATES + UNSEEN_TEMPLATES:
        for slot in template.slots:
            assert len({part.kind for part in slot}) == len(slot)
            assert all(len(set(part.texts)) >= 2 for part in slot)


def test_train_and_heldout_share_no_operands_and_no_combination(
    train: list[Problem], heldout: list[Problem]
) -> None:
    for old, new in ((train, heldout), (Problems("train", seed=9, size=5_000), heldout)):
        operands = {(p.template, p.parts.operands) for p in old}
        combinations = {(p.template, p.parts.structure, p.parts.wording, p.parts.item) for p in old}
        assert not operands & {(p.template, p.parts.operands) for p in new}
        assert not combinations & {
            (p.template, p.parts.structure, p.parts.wording, p.parts.item) for p in new
        }


def test_every_part_of_a_heldout_problem_occurs_in_train(
    train: list[Problem], heldout: list[Problem]
) -> None:
    def parts(problem: Problem) -> set[tuple[object, ...]]:
        made = problem.parts
        return {
            (problem.template, "item", made.item),
            *(
                (problem.template, slot, kind, choice)
                for slot, (kind, choice) in enumerate(
                    zip(made.structure, made.wording, strict=True)
                )
            ),
        }

    known = set().union(*map(parts, train))
    assert set().union(*map(parts, heldout)) <= known


def test_a_fifth_of_heldout_orders_its_clauses_as_train_never_does(
    train: list[Problem], heldout: list[Problem]
) -> None:
    known = {(p.template, p.parts.structure) for p in train}
    new = sum((p.template, p.parts.structure) not in known for p in heldout)
    assert new / len(heldout) > 0.2


def test_unseen_problems_speak_in_words_of_train(train: list[Problem]) -> None:
    def told(template: Template) -> set[str]:
        texts = [text for slot in template.slots for part in slot for text in part.texts]
        items = [word for item in template.items for word in (item.one, item.many)]
        return words(re.sub(r"\{\w+\}", " ", " ".join([*texts, *items])))

    known = set().union(*map(told, TRAIN_TEMPLATES))
    for template in UNSEEN_TEMPLATES:
        assert told(template) <= known, template.name


def test_the_vocabulary_is_modest(
    train: list[Problem], heldout: list[Problem], unseen: list[Problem]
) -> None:
    known = set().union(*(words(p.question) for p in train))
    assert len(known) < 600
    for problem in heldout + unseen:
        assert words(problem.question) <= known


def test_questions_are_short_and_steps_vary(train: list[Problem]) -> None:
    lengths = [len(p.question.split()) for p in train]
    assert min(lengths) >= 15
    assert max(lengths) <= 70
    steps = Counter(len(p.steps) for p in train)
    assert set(steps) == {2, 3, 4, 5, 6}
    assert steps[2] < len(train) / 3
    assert sum(step.result < 1000 for p in train for step in p.steps) > 0.95 * sum(
        len(p.steps) for p in train
    )


def test_four_in_ten_problems_hold_a_number_that_does_not_matter(train: list[Problem]) -> None:
    assert 0.37 < sum(p.parts.distractor is not None for p in train) / len(train) < 0.43
    for problem in train[:2_000]:
        numbers = Counter(map(int, re.findall(r"\d+", problem.question)))
        expected = Counter(problem.parts.operands)
        if problem.parts.distractor is not None:
            expected[problem.parts.distractor] += 1
        # A paraphrase may tell one number twice, but every number told is accounted for.
        assert set(numbers) == set(expected)
        assert all(numbers[number] >= count for number, count in expected.items())


def test_the_notation_of_a_clause() -> None:
    part = clause("buy", "n 2-4; m 10-30/10; k 5|7", "p = n * m; t = p", "a {n} {m} {k}", "b")
    assert part.choices == (("n", (2, 3, 4)), ("m", (10, 20, 30)), ("k", (5, 7)))
    first, second = part.assignments
    assert (first.target, first.left, first.operator, first.right) == ("p", "n", "*", "m")
    assert (second.target, second.left, second.operator) == ("t", "p", None)
    assert part.texts == ("a {n} {m} {k}", "b")


def test_a_malformed_step_is_refused() -> None:
    with pytest.raises(ValueError, match="got 't = n \\+ m \\+ k'"):
        clause("sum", "", "t = n + m + k", "text")

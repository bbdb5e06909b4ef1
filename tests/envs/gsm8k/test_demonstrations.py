"""Demonstrations call the real calculator, and err as often as they are told to."""

from __future__ import annotations

import pytest

from astuner_envs.gsm8k.calculator import evaluate
from astuner_envs.gsm8k.demonstrations import Demonstration, Turn, demonstrations
from astuner_envs.gsm8k.problems import Parts, Problem, Problems, Step

COINS = Problem(
    question="Tom buys 4 bags with 6 coins in each bag. He loses 5. How many are left?",
    steps=(Step("4 * 6", 24, (None, None)), Step("24 - 5", 19, (0, None))),
    answer=19,
    template="coins",
    parts=Parts(("buy", "lose"), "coins", (0, 0), (4, 6, 5), None),
)


def trace(*expressions: str) -> tuple[Turn, ...]:
    return tuple(Turn(expression, evaluate(expression)) for expression in expressions)


def test_without_errors_the_trace_is_the_solution() -> None:
    (demonstration,) = demonstrations([COINS], error_rate=0, seed=0)
    assert demonstration == Demonstration(
        question=COINS.question,
        turns=(Turn("4*6", "24"), Turn("24-5", "19")),
        answer="#### 19",
        correct=True,
    )


def test_each_kind_of_error_occurs() -> None:
    wrong = {d.turns for d in demonstrations([COINS] * 2_000, error_rate=1, seed=0)}
    by_kind = {
        "wrong operand": {trace("4*5", "20-5"), trace("4*6", "24-4"), trace("6*6", "36-5")},
        "wrong operator": {trace("4+6", "10-5"), trace("4*6", "24+5"), trace("4*6", "24*5")},
        "skipped step": {trace("4-5"), trace("6-5")},
        "swapped operands": {trace("4*6", "5-24")},
        "intermediate answer": {trace("4*6")},
    }
    for kind, examples in by_kind.items():
        assert examples <= wrong, kind
    # 6*4 is the same product and 24/5 is no whole number.
    assert trace("6*4", "24-5") not in wrong
    assert trace("4*6", "24/5") not in wrong


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_the_flag_and_the_calculator_are_true(rate: float) -> None:
    problems = Problems("train", size=2_000)
    made = list(demonstrations(problems, error_rate=rate, seed=1))
    for problem, demonstration in zip(problems, made, strict=True):
        assert demonstration.question == problem.question
        assert demonstration.correct == (demonstration.answer == f"#### {problem.answer}")
        assert demonstration.answer == f"#### {demonstration.turns[-1].result}"
        for turn in demonstration.turns:
            assert turn.result == evaluate(turn.expression)
            assert " " not in turn.expression
    share = sum(not d.correct for d in made) / len(made)
    assert share == pytest.approx(rate, abs=0.035)  # three standard deviations of 2,000 draws


def test_whether_one_errs_depends_on_seed_and_index_alone() -> None:
    others = Problems("unseen", size=300)
    problems = Problems("train", size=300)
    low = [d.correct for d in demonstrations(problems, error_rate=0.3, seed=0)]
    assert [d.correct for d in demonstrations(others, error_rate=0.3, seed=0)] == low
    assert [d.correct for d in demonstrations(problems, error_rate=0.3, seed=1)] != low
    high = [d.correct for d in demonstrations(problems, error_rate=0.6, seed=0)]
    assert all(at_low or not at_high for at_low, at_high in zip(low, high, strict=True))


def test_the_same_arguments_give_the_same_demonstrations() -> None:
    problems = Problems("heldout", size=200)
    first, again = (list(demonstrations(problems, error_rate=0.5, seed=4)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_an_error_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=f"got {rate}"):
        list(demonstrations([COINS], error_rate=rate, seed=0))

"""Expert tool-use traces for a supervised warm start, with a stated share of natural errors.

A demonstration calls the calculator once a step and then answers::

    question: Tom buys 4 bags with 6 coins in each bag. He loses 5 of the coins. How many …?
    turns:    4*6 -> 24,  24-5 -> 19
    answer:   #### 19

One with an error goes wrong at one place and follows from there: with a wrong operand in the first
step, `4*5 -> 20, 20-5 -> 15, #### 15`. What the calculator returns is always true of the expression
that it was given, so only the reasoning is wrong. Whether, where and how a demonstration errs is
drawn from (seed, index) and not from the question: a policy that imitates it well errs about as
often at temperature 1, and by greedy decoding much less.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from astuner_envs.gsm8k.calculator import CalculatorError, evaluate
from astuner_envs.gsm8k.problems import Problem, Step

LARGEST: Final = 10_000
"""Absolute values in an erroneous trace stay below it, as results in a correct one do."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One calculator call and its result."""

    expression: str
    """Without spaces: `12*3`."""
    result: str
    """What the calculator returned."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A trace for one problem."""

    question: str
    turns: tuple[Turn, ...]
    answer: str
    """The final text, for example `#### 36`."""
    correct: bool
    """Whether `answer` states the problem's answer."""


class Slip(StrEnum):
    """The kinds of error."""

    OPERAND = "operand"
    """A number of one step is replaced by another number of the question."""
    OPERATOR = "operator"
    """A step uses another operation."""
    SKIP = "skip"
    """A step is left out; later steps use its first operand, or its second, for its result."""
    SWAP = "swap"
    """The operands of a subtraction or division change places."""
    EARLY = "early"
    """The answer is the result of an earlier step: the last one is never made."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A step as a formula: an operand is a literal, or the index of an earlier call."""

    left: str | int
    operator: str
    right: str | int


def demonstrations(
    problems: Iterable[Problem], *, error_rate: float, seed: int
) -> Iterator[Demonstration]:
    """One demonstration for each problem, in order; each errs with probability `error_rate`.

    Raises:
        ValueError: for an error rate outside 0 to 1.
    """
    if not 0 <= error_rate <= 1:
        raise ValueError(
            f"error_rate is a probability, got {error_rate}; choose a value from 0 to 1"
        )
    for index, problem in enumerate(problems):
        key = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
        rng = random.Random(int.from_bytes(key))
        yield _wrong(problem, rng) if rng.random() < error_rate else _right(problem)


def _right(problem: Problem) -> Demonstration:
    turns = tuple(Turn(s.expression.replace(" ", ""), str(s.result)) for s in problem.steps)
    return Demonstration(problem.question, turns, f"#### {problem.answer}", correct=True)


def _wrong(problem: Problem, rng: random.Random) -> Demonstration:
    """An erroneous trace: the kind of error is drawn first, then one of its errors uniformly."""
    calls = tuple(_call(step) for step in problem.steps)
    kinds = list(Slip)
    while kinds:
        kind = kinds.pop(int(rng.random() * len(kinds)))
        variants = _variants(kind, calls, problem.question)
        while variants:
            turns = _run(variants.pop(int(rng.random() * len(variants))))
            # An error that leads to the right answer after all would make `correct` ambiguous.
            if turns and turns[-1].result != str(problem.answer):
                answer = f"#### {turns[-1].result}"
                return Demonstration(problem.question, turns, answer, correct=False)
    raise ValueError(
        f"a problem has at least one natural error, got {problem.question!r}; give it two steps"
    )


def _call(step: Step) -> _Call:
    left, operator, right = step.expression.split()
    left_source, right_source = step.sources
    return _Call(
        left if left_source is None else left_source,
        operator,
        right if right_source is None else right_source,
    )


def _variants(kind: Slip, calls: tuple[_Call, ...], question: str) -> list[tuple[_Call, ...]]:
    """All traces that differ from `calls` by one error of this kind."""
    match kind:
        case Slip.EARLY:
            return [calls[:end] for end in range(1, len(calls))]
        case Slip.SKIP:
            return [
                _without(calls, index, operand)
                for index in range(len(calls) - 1)
                for operand in (calls[index].left, calls[index].right)
            ]
    return [
        (*calls[:index], changed, *calls[index + 1 :])
        for index, call in enumerate(calls)
        for changed in _changes(kind, call, question)
    ]


def _changes(kind: Slip, call: _Call, question: str) -> list[_Call]:
    match kind:
        case Slip.OPERATOR:
            return [replace(call, operator=sign) for sign in "+-*/" if sign != call.operator]
        case Slip.SWAP:
            swapped = replace(call, left=call.right, right=call.left)
            return [swapped] if call.operator in "-/" else []
        case _:
            numbers = sorted(set(re.findall(r"\d+", question)))
            return [
                *(replace(call, left=number) for number in numbers if number != call.left),
                *(replace(call, right=number) for number in numbers if number != call.right),
            ]


def _without(calls: tuple[_Call, ...], index: int, operand: str | int) -> tuple[_Call, ...]:
    """The calls without one of them; where its result was used, one of its operands is."""

    def moved(reference: str | int) -> str | int:
        if reference == index:
            return operand
        return reference - 1 if isinstance(reference, int) and reference > index else reference

    kept = (*calls[:index], *calls[index + 1 :])
    return tuple(replace(call, left=moved(call.left), right=moved(call.right)) for call in kept)


def _run(calls: tuple[_Call, ...]) -> tuple[Turn, ...]:
    """The calls with their results; empty where a value is no whole number below `LARGEST`."""
    turns: list[Turn] = []
    for call in calls:
        left, right = (
            turns[operand].result if isinstance(operand, int) else operand
            for operand in (call.left, call.right)
        )
        expression = f"{left}{call.operator}{right}"
        try:
            result = evaluate(expression)
        except CalculatorError:
            return ()
        if "." in result or abs(int(result)) >= LARGEST:
            return ()
        turns.append(Turn(expression, result))
    return tuple(turns)

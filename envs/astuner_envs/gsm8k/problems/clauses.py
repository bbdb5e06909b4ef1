"""Templates as data: clauses with paraphrases, ranges for their numbers, and their arithmetic.

A clause is written in one call, and reads as it is drawn::

    clause("buy", "n 2-9; m 3-12", "p = n * m; t = t + p",
           "{He} buys {n} bags with {m} {items} in each bag.",
           "{He} gets {n} bags of {m} {items}.")

`n` and `m` are drawn for this clause; `p` and `t` are values that later clauses may use. A step
`t = n` gives a number another name and is not a calculation. Ranges: `2-9` is any of 2 to 9,
`20-90/10` is 20, 30, …, 90, and `10|25|50` is one of the three.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from astuner_envs.gsm8k.problems.words import Item

_SPAN: Final = re.compile(r"(\d+)-(\d+)(?:/(\d+))?")


@dataclass(frozen=True, slots=True)
class Assignment:
    """`target = left operator right`, or `target = left` where there is no operator."""

    target: str
    left: str
    operator: str | None
    right: str | None


@dataclass(frozen=True, slots=True)
class Clause:
    """One interchangeable part of a problem: a sentence or two, and the steps that it adds."""

    kind: str
    """Names the part in a problem's structure."""
    choices: tuple[tuple[str, tuple[int, ...]], ...]
    """Each number of the clause with the values that it may take."""
    assignments: tuple[Assignment, ...]
    texts: tuple[str, ...]
    """Paraphrases."""


@dataclass(frozen=True, slots=True)
class Template:
    """A scenario: slots in the order of the text, each with the clauses that may fill it.

    The last slot asks the question. A template is compositional if a slot has several clauses.
    """

    name: str
    items: tuple[Item, ...]
    slots: tuple[tuple[Clause, ...], ...]


def clause(kind: str, numbers: str, steps: str, *texts: str) -> Clause:
    """A clause from its notation (see the module)."""
    return Clause(
        kind=kind,
        choices=tuple(_choice(part) for part in _parts(numbers)),
        assignments=tuple(_assignment(part) for part in _parts(steps)),
        texts=texts,
    )


def _parts(notation: str) -> list[str]:
    return [part.strip() for part in notation.split(";") if part.strip()]


def _choice(notation: str) -> tuple[str, tuple[int, ...]]:
    name, values = notation.split()
    if (span := _SPAN.fullmatch(values)) is not None:
        low, high, stride = int(span[1]), int(span[2]), int(span[3] or 1)
        return name, tuple(range(low, high + 1, stride))
    return name, tuple(int(value) for value in values.split("|"))


def _assignment(notation: str) -> Assignment:
    target, expression = (side.strip() for side in notation.split("="))
    match expression.split():
        case [left]:
            return Assignment(target, left, None, None)
        case [left, ("+" | "-" | "*" | "/") as operator, right]:
            return Assignment(target, left, operator, right)
        case _:
            raise ValueError(
                f"a step has the form 'target = left operator right', got {notation!r}; "
                "split longer sums into several steps"
            )

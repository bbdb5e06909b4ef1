"""Problems by number: random access, and splits that are apart by construction."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final, TypeVar

from astuner_envs.gsm8k.problems import (
    collecting,
    comparing,
    sharing,
    trading,
    travelling,
    unseen,
    working,
)
from astuner_envs.gsm8k.problems.clauses import Clause, Template
from astuner_envs.gsm8k.problems.records import Parts, Problem, Step
from astuner_envs.gsm8k.problems.words import GOODS, PEOPLE, Item, Person

TRAIN_TEMPLATES: Final[tuple[Template, ...]] = (
    collecting.TEMPLATES
    + trading.TEMPLATES
    + working.TEMPLATES
    + travelling.TEMPLATES
    + comparing.TEMPLATES
    + sharing.TEMPLATES
)
UNSEEN_TEMPLATES: Final[tuple[Template, ...]] = unseen.TEMPLATES

LARGEST: Final = 10_000
"""Every result is below it."""
MAX_STEPS: Final = 6
DISTRACTOR_RATE: Final = 0.4
"""Share of the problems with an irrelevant number."""
LEAST_RESIDUES: Final = 4
"""A template whose sums of choices take fewer values has no reserved structure."""
RESERVED_STRUCTURES: Final = 12
"""At most one in so many orders of clauses is kept from training."""
RESERVED_WORDINGS: Final = 6
"""One in so many combinations of clauses, paraphrases and item is kept from training."""
RESERVED_OPERANDS: Final = 8
"""One in so many operand tuples of a template is kept from training."""
MAX_TRIES: Final = 2_000
"""Draws of one template before another is taken."""

_DISTRACTORS: Final = (
    "The dog of {name} is {n} years old.",
    "{name} has {n} friends at school.",
    "The family of {name} has {n} {extras} at home.",
    "Last year {name} went on {n} trips.",
    "The house of {name} is {n} years old.",
    "{name} went to bed {n} minutes late.",
    "There are {n} {extras} in another room.",
    "The school is {n} miles from the lake.",
    "{name} paid {n} dollars for a toy last week.",
    "Yesterday {name} lost {n} {extras}.",
)
_T = TypeVar("_T")


class Split(StrEnum):
    """Which problems: see the package for the rule."""

    TRAIN = "train"
    HELDOUT = "heldout"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Problems:
    """Problem `i` of a split is a function of (split, seed, i) alone.

    Raises:
        ValueError: for an unknown split or a size below 1.
        IndexError: for an index outside 0 to size - 1.
    """

    split: str
    seed: int = 0
    size: int = 10_000

    def __post_init__(self) -> None:
        if self.split not in set(Split):
            raise ValueError(
                f"split is one of {', '.join(Split)}, got {self.split!r}; choose one of them"
            )
        if self.size < 1:
            raise ValueError(f"size must be >= 1, got {self.size}; ask for at least one problem")

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Problem]:
        return (self[index] for index in range(self.size))

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < self.size:
            raise IndexError(
                f"a problem's index is in 0..{self.size - 1}, got {index}; use a larger size"
            )
        return _generate(Split(self.split), random.Random(_hash(str(self.split), self.seed, index)))


def _hash(*key: object) -> int:
    """The same number for the same key in every process, unlike `hash`."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest())


def _reserved_structure(template: Template, choices: tuple[int, ...]) -> bool:
    """Whether the clauses chosen in each slot are a combination that training never shows.

    The indices of the choices are summed, and one residue is reserved. Any one choice leaves the
    sum free to take another residue as long as two slots have a choice, so training shows every
    clause. A template with few combinations has no reserved structure: it would be taught by the
    few that are left.
    """
    freedoms = [len(slot) - 1 for slot in template.slots if len(slot) > 1]
    modulus = min(RESERVED_STRUCTURES, 1 + sum(freedoms))
    if len(freedoms) < 2 or modulus < LEAST_RESIDUES:
        return False
    return (sum(choices) - _hash("structure", template.name)) % modulus == 0


def _reserved_wording(
    template: Template, item: Item, kinds: tuple[str, ...], wording: tuple[int, ...]
) -> bool:
    return _hash("wording", template.name, item.many, kinds, wording) % RESERVED_WORDINGS == 0


def _reserved_operands(template: Template, operands: tuple[int, ...]) -> bool:
    return _hash("operands", template.name, operands) % RESERVED_OPERANDS == 0


def _pick(rng: random.Random, options: Sequence[_T]) -> _T:
    # Only random() is promised to be the same in every version of Python.
    return options[int(rng.random() * len(options))]


def _generate(split: Split, rng: random.Random) -> Problem:
    templates = UNSEEN_TEMPLATES if split is Split.UNSEEN else TRAIN_TEMPLATES
    while True:
        template = _pick(rng, templates)
        # Bounded, so that a template of which a split has little never holds a draw up.
        for _ in range(MAX_TRIES):
            problem = _attempt(split, template, rng)
            if problem is not None:
                return problem


def _attempt(split: Split, template: Template, rng: random.Random) -> Problem | None:
    """One draw of all parts, or None where it belongs to another split or has no whole answer."""
    choices = tuple(int(rng.random() * len(slot)) for slot in template.slots)
    structure = tuple(slot[choice] for slot, choice in zip(template.slots, choices, strict=True))
    wording = tuple(int(rng.random() * len(part.texts)) for part in structure)
    item = _pick(rng, template.items)
    values = [tuple(_pick(rng, numbers) for _, numbers in part.choices) for part in structure]
    kinds = tuple(part.kind for part in structure)
    operands = tuple(value for group in values for value in group)
    if split is not Split.UNSEEN:
        new_combination = _reserved_structure(template, choices) or _reserved_wording(
            template, item, kinds, wording
        )
        new_numbers = _reserved_operands(template, operands)
        if not (new_combination == new_numbers == (split is Split.HELDOUT)):
            return None
    steps = _solve(structure, values)
    if steps is None:
        return None
    text, distractor = _tell(rng, structure, wording, values, item)
    parts = Parts(kinds, item.many, wording, operands, distractor)
    return Problem(text, steps, steps[-1].result, template.name, parts)


def _solve(structure: tuple[Clause, ...], values: list[tuple[int, ...]]) -> tuple[Step, ...] | None:
    """The steps, or None where a result is not a whole number in 1 to `LARGEST`."""
    known: dict[str, tuple[int, int | None]] = {}
    steps: list[Step] = []
    for part, group in zip(structure, values, strict=True):
        names = [name for name, _ in part.choices]
        known.update({name: (value, None) for name, value in zip(names, group, strict=True)})
        for assignment in part.assignments:
            left, left_source = _operand(assignment.left, known)
            if assignment.operator is None or assignment.right is None:
                known[assignment.target] = (left, left_source)
                continue
            right, right_source = _operand(assignment.right, known)
            result = _apply(assignment.operator, left, right)
            if result.denominator != 1 or not 0 < result < LARGEST:
                return None
            known[assignment.target] = (int(result), len(steps))
            expression = f"{left} {assignment.operator} {right}"
            steps.append(Step(expression, int(result), (left_source, right_source)))
    return tuple(steps) if len(steps) <= MAX_STEPS else None


def _operand(name: str, known: dict[str, tuple[int, int | None]]) -> tuple[int, int | None]:
    return (int(name), None) if name.isdigit() else known[name]


def _apply(operator: str, left: int, right: int) -> Fraction:
    match operator:
        case "+":
            return Fraction(left + right)
        case "-":
            return Fraction(left - right)
        case "*":
            return Fraction(left * right)
        case _:
            return Fraction(left, right)


def _tell(
    rng: random.Random,
    structure: tuple[Clause, ...],
    wording: tuple[int, ...],
    values: list[tuple[int, ...]],
    item: Item,
) -> tuple[str, int | None]:
    """The text, and the number of its irrelevant sentence."""
    hero, other, third = _cast(rng)
    words = {
        "name": hero.name,
        "he": hero.he,
        "He": hero.he.capitalize(),
        "him": hero.him,
        "other": other.name,
        "third": third.name,
        "item": item.one,
        "items": item.many,
    }
    sentences = [
        _fill(part.texts[choice], words, [name for name, _ in part.choices], group)
        for part, choice, group in zip(structure, wording, values, strict=True)
    ]
    if rng.random() >= DISTRACTOR_RATE:
        return " ".join(sentences), None
    number = 2 + int(rng.random() * 48)
    # Things that the problem speaks of would make the sentence relevant.
    told = set(re.findall(r"\w+", " ".join(sentences)))
    words["extras"] = _pick(rng, [good.many for good in GOODS if good.many not in told])
    place = 1 + int(rng.random() * (len(sentences) - 1))
    sentences.insert(place, _fill(_pick(rng, _DISTRACTORS), words, ["n"], (number,)))
    return " ".join(sentences), number


def _cast(rng: random.Random) -> tuple[Person, Person, Person]:
    people = list(PEOPLE)
    first, second, third = (people.pop(int(rng.random() * len(people))) for _ in range(3))
    return first, second, third


def _fill(text: str, words: dict[str, str], names: list[str], group: tuple[int, ...]) -> str:
    slots = words | {name: str(value) for name, value in zip(names, group, strict=True)}
    return re.sub(r"\{(\w+)\}", lambda match: slots[match[1]], text)

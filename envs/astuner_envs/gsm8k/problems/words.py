"""The people and things that problems are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Item:
    """A countable thing."""

    one: str
    many: str


@dataclass(frozen=True, slots=True)
class Person:
    """A name with its pronouns."""

    name: str
    he: str
    him: str


def _items(words: str) -> tuple[Item, ...]:
    """Items from their singulars; `peach/peaches` gives an irregular plural."""
    pairs = (word.partition("/") for word in words.split())
    return tuple(Item(one, many or one + "s") for one, _, many in pairs)


WOMEN: Final = ("Anna", "Mia", "Ella", "Sara", "Nora", "Lily", "Emma", "Jane")
MEN: Final = ("Tom", "Ben", "Sam", "Leo", "Max", "Jack", "Paul", "Adam")
PEOPLE: Final = (
    *(Person(name, "she", "her") for name in WOMEN),
    *(Person(name, "he", "him") for name in MEN),
)

TOYS: Final = _items("marble sticker card coin bead stamp shell toy")
FRUITS: Final = _items("apple pear orange lemon plum peach/peaches")
BAKED: Final = _items("cookie muffin cake pie roll bun")
SCHOOL: Final = _items("pencil pen book eraser notebook ruler")
PLANTS: Final = _items("rose tulip tree bush/bushes flower")
ANIMALS: Final = _items("hen duck goat cow rabbit horse")
CLOTHES: Final = _items("shirt hat scarf/scarves jacket belt cap")
GOODS: Final = TOYS + SCHOOL + CLOTHES
NOTHING: Final = (Item("", ""),)
"""For scenarios that count no item: dollars, miles, people."""

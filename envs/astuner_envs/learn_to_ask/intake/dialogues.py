"""Dialogues by number: random access, and splits that are apart by construction."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from astuner_envs.learn_to_ask.intake.slots import SLOTS, Slot, Value
from astuner_envs.learn_to_ask.intake.topics import (
    ASIDES,
    CLOSINGS,
    DISTRACTORS,
    DODGES,
    FILLINGS,
    GREETINGS,
    TRAIN_TOPICS,
    UNSEEN_TOPICS,
    Topic,
)
from astuner_envs.learn_to_ask.records import Message, Session, Speaker

RESERVED: Final = 6
"""One in so many openings, and one in so many cases, is kept from training."""
VOLUNTEERED: Final = 0.35
"""How often a turn tells a further value, unasked."""
DISTRACTED: Final = 0.3
"""How often a turn mentions another person's thing."""
ASIDE: Final = 0.15
DODGED: Final = 0.15
"""How often a question is not answered the first time."""
OUT_OF_ORDER: Final = 0.25
"""How often the clerk does not ask for the first thing that is missing."""
CARELESS: Final = 0.25
"""How often a turn is written without capitals and full stop."""
_T = TypeVar("_T")


class Split(StrEnum):
    """Which dialogues: see the package for the rule."""

    TRAIN = "train"
    HELDOUT = "heldout"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """A dialogue, and what is true behind it."""

    session: Session
    case: tuple[tuple[str, str], ...]
    """The thing, and the value of each slot that matters; the split rule is stated over it."""
    missing: tuple[tuple[str, ...], ...]
    """For each of the person's turns the slots that are not told by its end, in the order in which
    a clerk would ask."""


@dataclass(frozen=True, slots=True)
class Intakes:
    """Dialogue `i` of a split is a function of (split, seed, i) alone.

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
            raise ValueError(f"size must be >= 1, got {self.size}; ask for at least one dialogue")

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Intake]:
        return (self[index] for index in range(self.size))

    def __getitem__(self, index: int) -> Intake:
        if not 0 <= index < self.size:
            raise IndexError(
                f"a dialogue's index is in 0..{self.size - 1}, got {index}; use a larger size"
            )
        rng = random.Random(_hash("dialogue", str(self.split), self.seed, index))
        while True:
            intake = _draw(f"{self.split}-{index}", Split(self.split), rng)
            if intake is not None:
                return intake


def matters(topic: Topic, values: Mapping[str, Value]) -> list[str]:
    """Return the slots that matter in a case, in the order in which a clerk would ask.

    What a value leads to comes right after it; what a value waives is left out from there on.
    """
    found: list[str] = []
    waived: set[str] = set()
    ahead = list(topic.slots)
    while ahead:
        name = ahead.pop(0)
        if name in waived or name in found:
            continue
        found.append(name)
        waived.update(values[name].waives)
        ahead[:0] = values[name].leads_to
    return found


def _hash(*key: object) -> int:
    """The same number for the same key in every process, unlike `hash`."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest())


def _belongs(split: Split, *, opening: str, case: tuple[tuple[str, str], ...]) -> bool:
    if split is Split.UNSEEN:
        return True
    reserved = (
        _hash("opening", opening) % RESERVED == 0,
        _hash("case", case) % RESERVED == 0,
    )
    return all(reserved) if split is Split.HELDOUT else not any(reserved)


def _pick(rng: random.Random, options: Sequence[_T]) -> _T:
    # Only random() is promised to be the same in every version of Python.
    return options[int(rng.random() * len(options))]


def _draw(name: str, split: Split, rng: random.Random) -> Intake | None:
    """One draw of a case and a dialogue, or None where they belong to another split."""
    topic = _pick(rng, UNSEEN_TOPICS if split is Split.UNSEEN else TRAIN_TOPICS)
    values = {slot.name: _pick(rng, slot.values) for slot in SLOTS.values()}
    slots = matters(topic, values)
    case = (("topic", topic.name), *((slot, values[slot].name) for slot in slots))
    person = _Person(rng, values=values, slots=slots)
    opening = person.open(topic)
    if not _belongs(split, opening=opening, case=case):
        return None
    messages = [Message(Speaker.PERSON, opening)]
    missing = [person.missing]
    while person.missing:
        slot = person.next_slot()
        messages.append(Message(Speaker.CLERK, _pick(rng, slot.questions)))
        messages.append(Message(Speaker.PERSON, person.answer(slot)))
        missing.append(person.missing)
    messages.append(Message(Speaker.CLERK, _pick(rng, CLOSINGS)))
    return Intake(
        session=Session(id=name, topic=topic.name, messages=tuple(messages)),
        case=case,
        missing=tuple(missing),
    )


class _Person:
    """Who knows the values and tells them by and by."""

    def __init__(
        self, rng: random.Random, *, values: Mapping[str, Value], slots: Sequence[str]
    ) -> None:
        self._rng = rng
        self._values = values
        self._slots = slots
        self._told: set[str] = set()

    @property
    def missing(self) -> tuple[str, ...]:
        """What matters and has not been told."""
        return tuple(name for name in self._slots if name not in self._told)

    def open(self, topic: Topic) -> str:
        """Say what is broken."""
        return self._turn(_pick(self._rng, GREETINGS), _pick(self._rng, topic.complaints))

    def next_slot(self) -> Slot:
        """Return what a clerk asks for next: mostly the first slot that is missing."""
        askable = self._askable()
        first = self._rng.random() >= OUT_OF_ORDER
        return SLOTS[askable[0] if first else _pick(self._rng, askable)]

    def answer(self, slot: Slot) -> str:
        """Answer a question, or dodge it."""
        if self._rng.random() < DODGED:
            return self._turn("", _pick(self._rng, DODGES))
        return self._turn(_pick(self._rng, FILLINGS), self._tell(slot.name))

    def _turn(self, *beginning: str) -> str:
        sentences = [part for part in beginning if part]
        while self._askable() and self._rng.random() < VOLUNTEERED:
            sentences.append(self._tell(_pick(self._rng, self._askable())))
        for rate, phrases in ((DISTRACTED, DISTRACTORS), (ASIDE, ASIDES)):
            if self._rng.random() < rate:
                sentences.append(_pick(self._rng, phrases))
        text = " ".join(sentences)
        return text.lower().removesuffix(".") if self._rng.random() < CARELESS else text

    def _tell(self, name: str) -> str:
        self._told.add(name)
        return _pick(self._rng, self._values[name].said)

    def _askable(self) -> list[str]:
        """Return what is missing of which it can be known that it matters."""
        return [name for name in self.missing if not self._is_hidden(name, self.missing)]

    def _is_hidden(self, name: str, missing: Collection[str]) -> bool:
        """Whether a slot matters only because of what has not been told."""
        causes = [slot for slot in self._slots if name in self._values[slot].leads_to]
        return bool(causes) and all(cause in missing for cause in causes)

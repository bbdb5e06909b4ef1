"""One row of each generated dialogue, with what is missing there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from astuner_envs.learn_to_ask.intake.dialogues import Intake, Intakes
from astuner_envs.learn_to_ask.pipeline import rows
from astuner_envs.learn_to_ask.records import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeTurn:
    """A row and what is true behind it."""

    row: Row
    intake: Intake
    missing: tuple[str, ...]
    """Slots that are not told yet; empty where it is right to stop."""


@dataclass(frozen=True, slots=True)
class IntakeTurns:
    """Turn `i` is one of those of dialogue `i`, drawn from (split, seed, i)."""

    intakes: Intakes
    openings: bool = False
    """Whether it is the first one instead."""

    def __len__(self) -> int:
        return len(self.intakes)

    def __iter__(self) -> Iterator[IntakeTurn]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> IntakeTurn:
        intake = self.intakes[index]
        # Every turn has its row: people in these dialogues always tell something later, or nothing.
        found = list(rows(intake.session))
        draw = _hash(str(self.intakes.split), self.intakes.seed, index)
        turn = 0 if self.openings else draw % len(found)
        return IntakeTurn(row=found[turn], intake=intake, missing=intake.missing[turn])


def _hash(*key: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(("turn", *key)).encode(), digest_size=8).digest())

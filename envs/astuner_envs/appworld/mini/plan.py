"""The mini world as plain data, from which the engine's own code builds its databases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypedDict

from astuner_envs.appworld.mini.evaluation import (
    TestDatum,
    evaluation_source,
    labelled_requirements,
)
from astuner_envs.appworld.mini.people import APPS, PEOPLE, Person
from astuner_envs.appworld.mini.scenarios import TRAINED, UNSEEN, Value, Variant, variants

TRAIN_SCENARIOS: Final = 24
"""Of each trained kind; they are numbered from 0."""
HELD_OUT_SCENARIOS: Final = 22
"""Of each trained kind, after those of training."""
UNSEEN_SCENARIOS: Final = 22
"""Of each kind that training never shows."""


class PlannedRecord(TypedDict):
    """A row to create."""

    app: str
    model: str
    fields: Mapping[str, Value]


class PlannedTask(TypedDict):
    """A task to create."""

    id: str
    split: str
    person: int
    instruction: str
    records: Sequence[PlannedRecord]
    changes: Sequence[str]
    answer: Value
    evaluation: str
    test_data: Sequence[TestDatum]


class PlannedPerson(TypedDict):
    """A person who has an account in each app."""

    id: int
    first_name: str
    last_name: str
    email: str
    phone_number: str
    password: str


class Plan(TypedDict):
    """A whole world."""

    apps: Sequence[str]
    people: Sequence[PlannedPerson]
    tasks: Sequence[PlannedTask]


def numbered_variants(*, scale: float = 1.0) -> Iterator[tuple[str, str, Variant]]:
    """Yield (split, task id, variant) of the whole world.

    Args:
        scale: Share of the scenarios of each kind and split, at least one; 1 for all.
    """
    train, held_out, unseen = (
        max(1, round(scale * count))
        for count in (TRAIN_SCENARIOS, HELD_OUT_SCENARIOS, UNSEEN_SCENARIOS)
    )
    for split, templates, numbers in (
        ("train", TRAINED, range(train)),
        ("heldout", TRAINED, range(TRAIN_SCENARIOS, TRAIN_SCENARIOS + held_out)),
        ("unseen", UNSEEN, range(unseen)),
    ):
        for number in numbers:
            for name, template in templates.items():
                for index, variant in enumerate(variants(name, template, scenario=number), start=1):
                    yield split, f"{name}{number}_{index}", variant


def plan(*, scale: float = 1.0) -> Plan:
    """Return the whole world; see :func:`numbered_variants`."""
    return Plan(
        apps=APPS,
        people=[_person(person) for person in PEOPLE],
        tasks=[
            PlannedTask(
                id=id_,
                split=split,
                person=variant.person.id,
                instruction=variant.instruction,
                records=[
                    PlannedRecord(app=r.app, model=r.model, fields=r.fields)
                    for r in variant.records
                ],
                changes=variant.changes,
                answer=variant.answer,
                evaluation=evaluation_source(variant),
                test_data=labelled_requirements(variant),
            )
            for split, id_, variant in numbered_variants(scale=scale)
        ],
    )


def _person(person: Person) -> PlannedPerson:
    return PlannedPerson(
        id=person.id,
        first_name=person.first_name,
        last_name=person.last_name,
        email=person.email,
        phone_number=person.phone_number,
        password=person.password,
    )

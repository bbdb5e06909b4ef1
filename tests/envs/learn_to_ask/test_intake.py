"""Generated dialogues: hidden and waived slots, splits that are apart, and exact truths."""

from __future__ import annotations

from itertools import pairwise

import pytest

from astuner_envs.learn_to_ask.aspects import asked_form, asked_subject, told
from astuner_envs.learn_to_ask.content import count_questions
from astuner_envs.learn_to_ask.intake import Intakes, Split
from astuner_envs.learn_to_ask.intake.dialogues import matters
from astuner_envs.learn_to_ask.intake.slots import SLOTS, Slot, Value
from astuner_envs.learn_to_ask.intake.topics import (
    ASIDES,
    DISTRACTORS,
    DODGES,
    FILLINGS,
    GREETINGS,
    TRAIN_TOPICS,
    UNSEEN_TOPICS,
    Topic,
)
from astuner_envs.learn_to_ask.intake.turns import IntakeTurns
from astuner_envs.learn_to_ask.pipeline import rows
from astuner_envs.learn_to_ask.records import Speaker
from astuner_envs.learn_to_ask.reply import Reply, question_stem

FRIDGE = Topic(name="fridge", complaints=("It is warm.",), slots=("age", "sign", "change"))


def case(**values: str) -> dict[str, Value]:
    named = {"age": "some years", "sign": "dark", "change": "nothing"} | values
    return {
        slot.name: next(
            value
            for value in slot.values
            if value.name == named.get(slot.name, slot.values[0].name)
        )
        for slot in SLOTS.values()
    }


def test_values_lead_to_hidden_slots_and_waive_others() -> None:
    assert matters(FRIDGE, case(sign="dark")) == ["age", "sign", "fuse", "change"]
    assert matters(FRIDGE, case(sign="code")) == ["age", "sign", "code", "change"]
    assert matters(FRIDGE, case(age="new", sign="code")) == ["age", "receipt", "sign", "code"]


def test_every_hidden_slot_has_a_cause_and_every_slot_a_use() -> None:
    led_to = {name for slot in SLOTS.values() for value in slot.values for name in value.leads_to}
    asked = {name for topic in TRAIN_TOPICS + UNSEEN_TOPICS for name in topic.slots}
    assert led_to | asked == set(SLOTS)
    assert not led_to & asked


@pytest.mark.parametrize("slot", SLOTS.values(), ids=lambda slot: slot.name)
def test_the_rule_judge_knows_each_slot_by_its_questions_and_by_its_answers(slot: Slot) -> None:
    stems = [question_stem(question) for question in slot.questions]
    asked = {asked_form(stem) or asked_subject(stem) for stem in stems}
    assert len(asked) == 1
    for value in slot.values:
        for sentence in value.said:
            assert {told(sentence)} == asked
            assert {told(sentence.lower())} == asked
    for question in slot.questions:
        assert count_questions(Reply(question).questions) == 1


def test_no_two_slots_are_the_same_to_the_rule_judge() -> None:
    aspects = [told(slot.values[0].said[0]) for slot in SLOTS.values()]
    assert len({*aspects}) == len(SLOTS)


def test_what_is_beside_the_point_tells_nothing() -> None:
    for sentence in (*DISTRACTORS, *ASIDES, *DODGES, *FILLINGS, *GREETINGS):
        assert told(sentence) == frozenset(), sentence


@pytest.mark.parametrize("split", Split)
def test_a_dialogue_is_a_function_of_split_seed_and_number(split: Split) -> None:
    assert Intakes(split, seed=3)[5] == Intakes(split, seed=3)[5]
    assert Intakes(split, seed=3)[5] != Intakes(split, seed=4)[5]
    assert Intakes(split, seed=3)[5] != Intakes(split, seed=3)[6]


@pytest.mark.parametrize("split", Split)
def test_the_truth_follows_from_what_is_told(split: Split) -> None:
    for intake in Intakes(split, size=200):
        found = list(rows(intake.session))
        assert len(found) == len(intake.missing)
        for row, missing in zip(found, intake.missing, strict=True):
            assert (row.decision == "stop") == (not missing)
            # Whatever is missing is told later, so asking for it is direct.
            for name in missing:
                assert told(SLOTS[name].values[0].said[0]) <= told(row.info)
        for earlier, later in pairwise(intake.missing):
            assert set(later) <= set(earlier)


def test_every_kind_of_trouble_occurs() -> None:
    intakes = list(Intakes(Split.TRAIN, size=300))
    persons = [
        message.text
        for intake in intakes
        for message in intake.session.messages
        if message.speaker is Speaker.PERSON
    ]
    for phrase in (*DISTRACTORS, *DODGES, *ASIDES):
        assert any(phrase in text for text in persons), phrase
    slots = {name for intake in intakes for name, _ in intake.case[1:]}
    assert slots == set(SLOTS)
    stops = [row.decision == "stop" for intake in intakes for row in rows(intake.session)]
    assert 0.1 < sum(stops) / len(stops) < 0.4


def test_splits_share_no_opening_and_no_case() -> None:
    train, heldout = (list(Intakes(split, size=1_500)) for split in ("train", "heldout"))
    for key in ("opening", "case"):
        of_train, of_heldout = (
            {
                intake.session.messages[0].text if key == "opening" else intake.case
                for intake in intakes
            }
            for intakes in (train, heldout)
        )
        assert not of_train & of_heldout, key
    topics = {intake.session.topic for intake in Intakes(Split.UNSEEN, size=100)}
    assert topics == {topic.name for topic in UNSEEN_TOPICS}
    assert not topics & {topic.name for topic in TRAIN_TOPICS}


def test_turns_are_drawn_from_all_of_a_dialogue_unless_openings_are_wanted() -> None:
    turns = IntakeTurns(Intakes("train", size=200))
    lengths = {len(turn.row.history) for turn in turns}
    assert {1, 3, 5, 7} <= lengths
    openings = IntakeTurns(Intakes("train", size=50), openings=True)
    assert {len(turn.row.history) for turn in openings} == {1}


def test_unusable_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"split is one of train, heldout, unseen, got 'test'"):
        Intakes("test")
    with pytest.raises(ValueError, match=r"size must be >= 1, got 0"):
        Intakes("train", size=0)
    with pytest.raises(IndexError, match=r"index is in 0..1, got 2"):
        Intakes("train", size=2)[2]

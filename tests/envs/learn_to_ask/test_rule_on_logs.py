"""The rule judge on a user's dialogues: own questions beside those of another dialogue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from astuner_envs.learn_to_ask.content import Fit
from astuner_envs.learn_to_ask.intake import Intakes
from astuner_envs.learn_to_ask.records import Message, Session, Speaker
from astuner_envs.learn_to_ask.rule_on_logs import asked_next, grade, main


def session(name: str, *said: str) -> Session:
    """Of turns that begin with the person's."""
    speakers = (Speaker.PERSON, Speaker.CLERK) * len(said)
    return Session(id=name, topic="", messages=tuple(map(Message, speakers, said)))


SINCE = session("1", "It leaks.", "I see. Since when?", "Since May.", "Good.", "It is old now.")
PLACE = session("2", "It hums.", "Where is it?", "In the kitchen.")


def test_what_was_asked_is_held_against_its_own_dialogue_and_another() -> None:
    asked = asked_next([SINCE, PLACE])
    # "Good." asks nothing.
    assert [(each.session_id, each.questions) for each in asked] == [
        ("1", ("I see. Since when",)),
        ("2", ("Where is it",)),
    ]
    assert grade(asked) == ({Fit.DIRECT: 2}, {Fit.OFF: 2})


def test_the_rule_knows_generated_dialogues() -> None:
    own, other = grade(asked_next(intake.session for intake in Intakes("train", size=60)))
    assert own[Fit.DIRECT] == own.total()
    assert other[Fit.DIRECT] < other.total() / 2


def write(path: Path, *sessions: Session) -> str:
    lines = (
        {"session_id": each.id, "diagn": "", "messages": [said.record for said in each.messages]}
        for each in sessions
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_it_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([write(tmp_path / "logs.jsonl", SINCE, PLACE)]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["direct", "100.0%", "0.0%"],
        ["relevant", "0.0%", "0.0%"],
        ["generic", "0.0%", "0.0%"],
        ["off", "0.0%", "100.0%"],
    ]


def test_a_log_that_shows_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([write(tmp_path / "logs.jsonl", SINCE)]) == 2
    assert "at least two dialogues must hold a question" in capsys.readouterr().err
    assert main([str(tmp_path / "none.jsonl")]) == 2

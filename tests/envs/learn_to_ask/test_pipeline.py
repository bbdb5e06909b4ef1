"""Whole dialogues become rows: full histories, stops after a person's turn alone, no empty info."""

from __future__ import annotations

import pytest

from astuner_envs.learn_to_ask.pipeline import rows, tells_something
from astuner_envs.learn_to_ask.records import Decision, Message, Row, Session, Speaker
from astuner_gym.errors import TaskDataError
from astuner_gym.task import JsonValue, Task


def said(dialogue: str) -> tuple[Message, ...]:
    """``u: Hi|a: Yes?`` as messages."""
    speakers = {"u": Speaker.PERSON, "a": Speaker.CLERK}
    parts = (part.partition(": ") for part in dialogue.split("|"))
    return tuple(Message(speakers[who], text) for who, _, text in parts)


def rows_of(dialogue: str) -> list[Row]:
    return list(rows(Session(id="7", topic="pump", messages=said(dialogue))))


def test_each_turn_gives_the_whole_history_and_what_came_later() -> None:
    found = rows_of(
        "u: It leaks.|a: Since when?|u: May.|u: It is old.|a: Where?|u: Cellar.|a: Fine."
    )
    assert [row.id for row in found] == ["7_0", "7_1", "7_2"]
    assert [len(row.history) for row in found] == [1, 4, 6]
    assert [row.info for row in found] == ["May.\nIt is old.\nCellar.", "Cellar.", ""]
    assert [row.decision for row in found] == ["continue", "continue", "stop"]


def test_no_row_ends_with_the_other_speaker() -> None:
    found = rows_of("a: Hello.|u: It leaks.|a: Thank you.|a: Bye.")
    assert [(row.history[-1].text, row.decision) for row in found] == [("It leaks.", "stop")]
    assert rows_of("a: Anybody there?") == []


def test_a_turn_after_which_nothing_is_told_gives_no_row() -> None:
    found = rows_of("u: It leaks.|a: A lot?|u: Cellar is full.|a: Oh.|u: Yes, okay.")
    # After the second turn the person only says yes: neither asking nor stopping would be right.
    assert [(row.id, row.decision) for row in found] == [("7_0", "continue"), ("7_2", "stop")]
    assert found[0].info == "Cellar is full."


@pytest.mark.parametrize(
    "text",
    ["Yes.", "No, thank you!", "Uh, okay...", "", "Mm-hmm", "Exactly. Go ahead.", "No problem."],
)
def test_assent_and_thanks_tell_nothing(text: str) -> None:
    assert not tells_something(text)


@pytest.mark.parametrize("text", ["Yes, since May.", "Penicillin.", "3", "No pain."])
def test_one_word_of_substance_tells(text: str) -> None:
    assert tells_something(text)


def test_rows_survive_their_records() -> None:
    for row in rows_of("u: It leaks.|a: Since when?|u: May."):
        assert Row.of(Task("t", row.record)) == row


ROW: dict[str, JsonValue] = {
    "cid": "7_0",
    "session_id": 7,
    "diagn": "pump",
    "messages": [{"role": "user", "content": "It leaks."}],
    "decision_truth": "continue",
    "info_truth": "May.",
}


def test_published_session_ids_are_numbers() -> None:
    assert Row.of(Task("t", ROW)).session_id == "7"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decision_truth": "go"}, r"task t: field 'decision_truth' must be one of .*got 'go'"),
        ({"info_truth": " "}, r"task t: field 'info_truth' must say what the person"),
        ({"info_truth": None}, r"task t: field 'info_truth' must be text, got None"),
        ({"messages": "It leaks."}, r"task t: field 'messages' must be a list"),
        ({"messages": []}, r"task t: field 'messages' must hold text"),
        ({"messages": [{"role": "system", "content": "x"}]}, r"task t: messages\[0\] must be"),
        ({"messages": [{"role": "user", "content": 3}]}, r"task t: messages\[0\] must be"),
        (
            {"messages": [{"role": "assistant", "content": "Hm."}]},
            r"task t: 'messages' must end with one of role 'user'",
        ),
    ],
)
def test_malformed_rows_name_task_and_field(change: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(TaskDataError, match=message):
        Row.of(Task("t", ROW | change))


@pytest.mark.parametrize("info", ["", None])
def test_a_row_without_later_turns_may_have_no_info(info: str | None) -> None:
    row = Row.of(Task("t", ROW | {"decision_truth": "stop", "info_truth": info}))
    assert (row.decision, row.info) == (Decision.STOP, "")


def test_a_message_quotes_no_more_of_a_row_than_fits_a_line() -> None:
    with pytest.raises(TaskDataError) as caught:
        Row.of(Task("t", ROW | {"messages": "It leaks. " * 1_000}))
    assert len(str(caught.value)) < 200

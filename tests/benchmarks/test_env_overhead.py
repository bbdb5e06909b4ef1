"""That all ways of the environment benchmark play the same games, and what it calls its memory."""

from __future__ import annotations

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatRole
from benchmarks.env_overhead import (
    checked_turns,
    cpu_seconds_in_turns,
    peak_memory,
    scripted,
    stepped_at_once,
    ways,
    werewolves,
)


def asked(text: str, *, index: int) -> ChatCall:
    message = ChatMessage(role=ChatRole.USER, text=text)
    return ChatCall(agent="Ada", role="seer", index=index, messages=(message,))


def test_the_script_chooses_among_what_is_offered_and_else_speaks() -> None:
    vote = "Ben: Ada it is. One of: us.\nWhom do you lynch? One of: Cleo Dan."
    assert {scripted(asked(vote, index=index)) for index in range(20)} == {"Cleo", "Dan"}
    assert " " in scripted(asked("Night 1.\nSay something to your pack.", index=0))


def test_games_go_alike_in_every_way_and_are_of_nine_players() -> None:
    turns = checked_turns(werewolves(), ways(at_once=2, in_turn=1))
    assert turns["bare_at_once"] == turns["stepped_at_once"] > turns["bare_in_turn"] > 20
    assert all(len(game.rewards) > 6 for game in stepped_at_once(werewolves(), games=2))


def test_each_way_is_measured_in_each_repeat() -> None:
    compared = ways(at_once=1, in_turn=1)
    seconds = cpu_seconds_in_turns(werewolves(), compared, repeats=2)
    assert {name: len(taken) for name, taken in seconds.items()} == dict.fromkeys(compared, 2)


def test_the_peak_is_in_bytes() -> None:
    assert 10**7 < peak_memory() < 10**11

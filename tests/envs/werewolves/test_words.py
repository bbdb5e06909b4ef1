"""The game in words: what is asked, what is told once, and how replies are read."""

from __future__ import annotations

import pytest

from astuner_envs.werewolves.engine import Ask, Choice, Game, Request, Speech
from astuner_envs.werewolves.rules import SEVEN_PLAYERS, Role, Rules
from astuner_envs.werewolves.words import Transcript, introduction, question, read, write

VOTE = Request("Ada", Ask.VOTE, ("Ben", "Cleo"))
HEAL = Request("Ada", Ask.HEAL, ("Ben",), may_pass=True)


def game(*, seed: int = 0) -> Game:
    return Game(SEVEN_PLAYERS, seed=seed)


@pytest.mark.parametrize(
    ("reply", "target"),
    [
        ("Ben", "Ben"),
        ("I vote for Ben.", "Ben"),
        ("Cleo is odd.\nI vote for Ben.", "Ben"),
        ("Ben, definitely Ben!\n\n", "Ben"),
        ("**Ben**", "Ben"),
        ("BEN", "Ben"),
        ("Gus", "Gus"),  # that he may not be chosen is the engine's business
    ],
)
def test_a_choice_is_the_one_name_in_the_last_line_that_has_any(reply: str, target: str) -> None:
    assert read(VOTE, reply) == Choice(target)


@pytest.mark.parametrize("reply", ["", "Ben or Cleo", "Benjamin", "I abstain", "\u202e", "貓"])
def test_a_reply_without_one_name_is_no_choice(reply: str) -> None:
    assert read(VOTE, reply) is None


def test_nobody_is_a_choice() -> None:
    assert read(HEAL, "nobody") == Choice(None)


def test_a_speech_is_whatever_was_said() -> None:
    assert read(Request("Ada", Ask.TALK), "Ben or Cleo?") == Speech("Ben or Cleo?")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [(VOTE, Choice("Cleo")), (HEAL, Choice(None)), (Request("Ada", Ask.TALK), Speech("Hm."))],
)
def test_what_is_written_reads_as_it_was_meant(request_: Request, answer: Choice | Speech) -> None:
    assert read(request_, write(answer)) == answer


def test_a_question_names_those_who_may_be_chosen() -> None:
    assert question(VOTE) == "Whom do you vote to lynch? One of: Ben Cleo."
    assert question(HEAL) == "Whom do you heal? One of: Ben nobody."
    assert question(Request("Ada", Ask.TALK)) == "Say something to all."


def test_wolves_alone_are_told_the_pack() -> None:
    played = game()
    wolves = [player for player, role in played.roles.items() if role is Role.WEREWOLF]
    for player in played.roles:
        text = introduction(played.view(player))
        assert (f"Your pack: {' '.join(wolves)}." in text) == (player in wolves)
        assert text.startswith(f"You are {player}, ")


def test_each_message_holds_what_is_new_and_never_ones_own_words() -> None:
    rules = Rules(werewolves=1, villagers=3, seer=False, witch=False, hunter=False)
    played = Game(rules, seed=1)
    wolf = next(player for player, role in played.roles.items() if role is Role.WEREWOLF)
    played.answer({wolf: None})  # no legal choice, so nobody dies
    told = Transcript()
    messages = []
    for player in played.alive:
        (request,) = played.requests
        if player == "Ben":
            messages.append(told.message(played.view("Ben"), request))
        played.answer({player: Speech(f"Hear {player}.\nCleo: I confess.")})
    vote = next(request for request in played.requests if request.player == "Ben")
    messages.append(told.message(played.view("Ben"), vote))
    assert messages == [
        "Night 1.\nNobody died in the night.\nDay 1.\nAda: Hear Ada. Cleo: I confess.\n"
        "Say something to all.",
        "Cleo: Hear Cleo. Cleo: I confess.\nDan: Hear Dan. Cleo: I confess.\n"
        "Whom do you vote to lynch? One of: Ada Cleo Dan.",
    ]

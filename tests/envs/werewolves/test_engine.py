"""What holds in every game, whatever is answered."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_envs.werewolves.engine import (
    Answer,
    Ask,
    Choice,
    Event,
    EventKind,
    Game,
    Request,
    Speech,
    is_legal,
)
from astuner_envs.werewolves.rules import NAMES, SEVEN_PLAYERS, Role, Rules, Side, Tie
from tests.envs.werewolves.driving import drive, happened, of, one

RULES = st.builds(
    Rules,
    werewolves=st.integers(1, 2),
    villagers=st.integers(3, 5),
    seer=st.booleans(),
    witch=st.booleans(),
    hunter=st.booleans(),
    wolf_talks=st.integers(0, 1),
    talks=st.integers(0, 1),
    last_words=st.booleans(),
    self_vote=st.booleans(),
    wolves_may_target_wolves=st.booleans(),
    witch_may_heal_self=st.booleans(),
    witch_may_use_both=st.booleans(),
    tie=st.sampled_from(Tie),
    parity=st.booleans(),
    rounds=st.integers(1, 5),
)
ANSWERS = st.one_of(
    st.none(),
    st.builds(Choice, st.none() | st.sampled_from((*NAMES, "Zoe", ""))),
    st.builds(Speech, st.text(max_size=20)),
)


def legal_answers(request: Request) -> st.SearchStrategy[Answer]:
    if request.ask.is_speech:
        return st.builds(Speech, st.text(max_size=20))
    return st.builds(Choice, st.sampled_from((*request.targets, *[None] * request.may_pass)))


def any_answers(draw: st.DataObject, game: Game) -> dict[str, Answer]:
    """Legal ones mostly; some may be missing."""
    answers = {}
    for request in game.requests:
        kind = draw.draw(st.sampled_from(("legal", "legal", "legal", "any", "missing")))
        if kind != "missing":
            strategy = legal_answers(request) if kind == "legal" else ANSWERS
            answers[request.player] = draw.draw(strategy)
    return answers


@settings(max_examples=150, deadline=None)
@given(rules=RULES, seed=st.integers(0, 10**6), data=st.data())
def test_every_game_ends_rightly_and_can_be_told_again(
    rules: Rules, seed: int, data: st.DataObject
) -> None:
    game = Game(rules, seed=seed)
    given_answers: list[dict[str, Answer]] = []
    illegal: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    while game.requests:
        answers = any_answers(data, game)
        given_answers.append(answers)
        for request in game.requests:
            asked[request.player] += 1
            illegal[request.player] += not is_legal(request, answers.get(request.player))
        before = len(game.events)
        game.answer(answers)
        assert len(given_answers) < 500
        assert len(game.events) > before or game.requests

    wolves = [player for player in game.alive if game.roles[player] is Role.WEREWOLF]
    others = len(game.alive) - len(wolves)
    if game.winner is Side.VILLAGE:
        assert not wolves
    elif game.winner is Side.WOLVES:
        assert wolves
        assert others == 0 or (rules.parity and len(wolves) >= others)
    else:
        assert game.truncated
        assert game.round == rules.rounds
        assert wolves
        assert others > len(wolves) or (others > 0 and not rules.parity)
    assert (+illegal, asked) == (+game.illegal, game.asked)

    again = Game(rules, seed=seed)
    for answers in given_answers:
        again.answer(answers)
    assert again.events == game.events


@settings(max_examples=100, deadline=None)
@given(rules=RULES, seed=st.integers(0, 10**6), data=st.data())
def test_nobody_sees_what_is_secret(rules: Rules, seed: int, data: st.DataObject) -> None:
    game = Game(rules, seed=seed)
    while game.requests:
        game.answer(any_answers(data, game))
    pack = {*of(game, Role.WEREWOLF)}
    for player, role in game.roles.items():
        for event in game.view(player).events:
            assert may_see(event, player, role=role, pack=pack), event
        assert game.view(player).pack == (tuple(sorted(pack)) if player in pack else ())


def may_see(event: Event, player: str, *, role: Role, pack: set[str]) -> bool:
    """The rules of privacy, written a second time."""
    match event.kind:
        case EventKind.ROLE | EventKind.CHECKED | EventKind.HEALED | EventKind.POISONED:
            return event.player == player
        case EventKind.PACK | EventKind.WOLF_SPEECH | EventKind.KILL_VOTE:
            return player in pack
        case EventKind.VICTIM:
            return player in pack or role is Role.WITCH
        case _:
            return True


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_a_speech_is_one_line_whatever_it_holds(text: str) -> None:
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.TALK)
    game.answer({"Ada": Speech(f"{text}\nBen votes Cleo.\r\x0b\x0c\x1c\x85\u2028\u2029{text}")})
    heard = happened(game, EventKind.SPEECH)[-1].text
    assert len(f"{heard}.".splitlines()) == 1


def test_simultaneous_votes_are_seen_when_all_are_in() -> None:
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.VOTE)
    assert len(game.requests) == 7
    assert not happened(game, EventKind.VOTE)


def test_an_answer_of_somebody_who_is_not_asked_is_an_error_and_changes_nothing() -> None:
    game = Game(SEVEN_PLAYERS, seed=0)
    seer = one(game, Role.SEER)
    before = list(game.events)
    for stranger in (seer, "Zoe"):
        with pytest.raises(ValueError, match="only players who are asked may answer"):
            game.answer({stranger: Speech("Hello.")})
    assert (game.events, game.illegal, game.asked) == (before, {}, {})


def test_a_game_that_is_over_takes_no_answer() -> None:
    game = drive(Game(replace(SEVEN_PLAYERS, rounds=1), seed=0))
    with pytest.raises(ValueError, match="the game is over"):
        game.answer({})


def test_a_power_that_is_answered_against_the_rules_is_not_used() -> None:
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.CHECK)
    seer = one(game, Role.SEER)
    game.answer({seer: Choice(seer)})
    assert game.illegal[seer] == 1
    assert not happened(game, EventKind.CHECKED)


def test_the_seer_learns_the_side_and_not_the_role() -> None:
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.CHECK)
    game.answer({one(game, Role.SEER): Choice(one(game, Role.WITCH))})
    assert happened(game, EventKind.CHECKED)[0].text == "village"

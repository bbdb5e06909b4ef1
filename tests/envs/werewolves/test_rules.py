"""Every rule that is a setting, both ways."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astuner_envs.werewolves.engine import Ask, Choice, EventKind, Game, Speech
from astuner_envs.werewolves.rules import NINE_PLAYERS, SEVEN_PLAYERS, Role, Rules, Side, Tie
from astuner_gym.errors import SettingError
from tests.envs.werewolves.driving import Doing, drive, happened, of, one, request_of


def asked_until(game: Game, ask: Ask) -> list[Ask]:
    """What is asked before the first ``ask``."""
    asked = []
    while game.requests[0].ask is not ask:
        asked.append(game.requests[0].ask)
        drive(game, until=game.requests[0].ask)
        game.answer({})
    return asked


def lynched(game: Game) -> list[str]:
    return [event.player for event in happened(game, EventKind.LYNCHED)]


def tied_vote(rules: Rules, *, seed: int = 0, again: Doing | None = None) -> Game:
    """A game up to the second night, with Ada and Ben tied on the first day."""
    game = drive(Game(rules, seed=seed), until=Ask.VOTE)
    game.answer({"Ada": Choice("Ben"), "Ben": Choice("Ada")})
    return drive(game, again, until=Ask.KILL)


def test_the_presets_are_the_seven_and_nine_of_the_game() -> None:
    assert [SEVEN_PLAYERS.roles.count(role) for role in Role] == [2, 3, 1, 1, 0]
    assert [NINE_PLAYERS.roles.count(role) for role in Role] == [3, 3, 1, 1, 1]


def test_every_seat_can_get_every_role() -> None:
    dealt = [Game(SEVEN_PLAYERS, seed=seed).roles for seed in range(100)]
    for player in SEVEN_PLAYERS.players:
        assert {roles[player] for roles in dealt} == {*SEVEN_PLAYERS.roles}


@pytest.mark.parametrize("wolf_talks", [0, 1, 3])
def test_each_wolf_speaks_to_its_pack_as_often_as_set(wolf_talks: int) -> None:
    game = Game(replace(NINE_PLAYERS, wolf_talks=wolf_talks), seed=0)
    assert asked_until(game, Ask.KILL) == [Ask.WOLF_TALK] * 3 * wolf_talks


@pytest.mark.parametrize("talks", [0, 1, 2])
def test_each_living_player_speaks_as_often_as_set(talks: int) -> None:
    game = Game(replace(SEVEN_PLAYERS, talks=talks), seed=0)
    drive(game, {Ask.KILL: one(game, Role.VILLAGER)}, until=Ask.LAST_WORDS)
    game.answer({})
    assert asked_until(game, Ask.VOTE) == [Ask.TALK] * 6 * talks


@pytest.mark.parametrize("last_words", [True, False])
def test_the_lynched_have_last_words_if_set(last_words: bool) -> None:
    game = Game(replace(SEVEN_PLAYERS, last_words=last_words), seed=0)
    villager = one(game, Role.VILLAGER)
    drive(game, until=Ask.VOTE)
    drive(game, {Ask.VOTE: villager, Ask.LAST_WORDS: "Farewell."}, until=Ask.KILL)
    spoken = [(event.player, event.text) for event in happened(game, EventKind.LAST_WORDS)]
    assert spoken == [(villager, "Farewell.")] * last_words


def test_who_dies_in_a_later_night_has_no_last_words() -> None:
    game = Game(SEVEN_PLAYERS, seed=0)
    drive(game, until=Ask.VOTE)
    game.answer({})
    drive(game, {Ask.KILL: one(game, Role.VILLAGER)}, until=Ask.TALK)
    assert happened(game, EventKind.DIED)
    assert not happened(game, EventKind.LAST_WORDS)


@pytest.mark.parametrize("self_vote", [True, False])
def test_players_may_vote_for_themselves_if_set(self_vote: bool) -> None:
    game = drive(Game(replace(SEVEN_PLAYERS, self_vote=self_vote), seed=0), until=Ask.VOTE)
    assert ("Ada" in request_of(game, "Ada").targets) is self_vote
    before = game.illegal["Ada"]
    game.answer({"Ada": Choice("Ada")})
    assert game.illegal["Ada"] - before == (not self_vote)
    assert lynched(game) == ["Ada"] * self_vote


@pytest.mark.parametrize("own", [True, False])
def test_the_pack_may_kill_its_own_if_set(own: bool) -> None:
    game = Game(replace(NINE_PLAYERS, wolves_may_target_wolves=own), seed=0)
    first, second, _ = of(game, Role.WEREWOLF)
    drive(game, {Ask.KILL: second}, until=Ask.TALK)
    assert [event.player for event in happened(game, EventKind.DIED)] == [second] * own
    assert (game.illegal[first] == 0) is own


def test_a_tied_pack_kills_one_of_those_it_named_by_the_seed() -> None:
    killed = set()
    for seed in range(30):
        game = Game(SEVEN_PLAYERS, seed=seed)
        first, second = of(game, Role.WEREWOLF)
        one_villager, other, _ = of(game, Role.VILLAGER)
        kill = {(first, Ask.KILL): one_villager, (second, Ask.KILL): other}
        drive(game, kill, until=Ask.TALK)
        (dead,) = [event.player for event in happened(game, EventKind.DIED)]
        killed.add([one_villager, other].index(dead))
    assert killed == {0, 1}


def test_a_pack_that_names_nobody_kills_nobody() -> None:
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.TALK)
    assert happened(game, EventKind.QUIET)
    assert game.alive == SEVEN_PLAYERS.players


@pytest.mark.parametrize("herself", [True, False])
def test_the_witch_may_heal_herself_if_set(herself: bool) -> None:
    game = Game(replace(SEVEN_PLAYERS, witch_may_heal_self=herself), seed=0)
    witch = one(game, Role.WITCH)
    drive(game, {Ask.KILL: witch, Ask.HEAL: witch}, until=Ask.TALK)
    assert (witch in game.alive) is herself


def test_the_witch_heals_once() -> None:
    game = Game(SEVEN_PLAYERS, seed=0)
    first, second, _ = of(game, Role.VILLAGER)
    drive(game, {Ask.KILL: first, Ask.HEAL: first}, until=Ask.VOTE)
    game.answer({})
    drive(game, {Ask.KILL: second, Ask.HEAL: second}, until=Ask.TALK)
    assert [event.player for event in happened(game, EventKind.DIED)] == [second]
    witch = one(game, Role.WITCH)
    told = [event for event in game.view(witch).events if event.kind is EventKind.VICTIM]
    assert [event.target for event in told] == [first], "told as long as she can heal"


def test_the_witch_poisons_once() -> None:
    game = Game(SEVEN_PLAYERS, seed=0)
    drive(game, {Ask.POISON: one(game, Role.VILLAGER)}, until=Ask.VOTE)
    game.answer({})
    assert Ask.POISON not in asked_until(game, Ask.TALK)


@pytest.mark.parametrize("both", [True, False])
def test_the_witch_may_use_both_potions_in_a_night_if_set(both: bool) -> None:
    game = Game(replace(SEVEN_PLAYERS, witch_may_use_both=both), seed=0)
    wolf, villager = one(game, Role.WEREWOLF), one(game, Role.VILLAGER)
    drive(game, {Ask.KILL: villager, Ask.HEAL: villager, Ask.POISON: wolf}, until=Ask.TALK)
    assert [event.player for event in happened(game, EventKind.DIED)] == [wolf] * both


def test_a_witch_who_can_poison_nobody_is_not_asked() -> None:
    rules = Rules(
        werewolves=1, villagers=1, seer=False, hunter=False, parity=False, tie=Tie.NONE,
        wolves_may_target_wolves=True,
    )  # fmt: skip
    game = Game(rules, seed=0)
    wolf, villager = one(game, Role.WEREWOLF), one(game, Role.VILLAGER)
    drive(game, {Ask.KILL: villager}, until=Ask.VOTE)
    drive(game, {Ask.KILL: wolf}, until=Ask.HEAL)
    game.answer({one(game, Role.WITCH): Choice(None)})
    assert game.is_over


def test_a_tie_is_broken_by_the_seed_or_nobody_dies() -> None:
    broken = [lynched(tied_vote(SEVEN_PLAYERS, seed=seed)) for seed in range(20)]
    assert {*map(tuple, broken)} == {("Ada",), ("Ben",)}
    assert lynched(tied_vote(SEVEN_PLAYERS, seed=3)) == broken[3]
    assert lynched(tied_vote(replace(SEVEN_PLAYERS, tie=Tie.NONE))) == []


def test_a_revote_is_between_those_tied() -> None:
    revote = replace(SEVEN_PLAYERS, tie=Tie.REVOTE)
    game = drive(Game(revote, seed=0), until=Ask.VOTE)
    game.answer({"Ada": Choice("Ben"), "Ben": Choice("Ada")})
    assert {request.ask for request in game.requests} == {Ask.VOTE}
    assert request_of(game, "Ada").targets == ("Ben",)
    assert request_of(game, "Cleo").targets == ("Ada", "Ben")
    game.answer({"Cleo": Choice("Ben")})
    assert lynched(game) == ["Ben"]


def test_nobody_is_lynched_if_a_revote_is_tied_as_well() -> None:
    game = tied_vote(
        replace(SEVEN_PLAYERS, tie=Tie.REVOTE),
        again={("Ada", Ask.VOTE): "Ben", ("Ben", Ask.VOTE): "Ada"},
    )
    assert lynched(game) == []
    assert len(happened(game, EventKind.TIED)) == 1
    assert len(happened(game, EventKind.SPARED)) == 1


def test_a_vote_without_votes_lynches_nobody() -> None:
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.VOTE)
    game.answer({})
    assert happened(game, EventKind.SPARED)
    assert game.alive == SEVEN_PLAYERS.players


@pytest.mark.parametrize(("parity", "winner"), [(True, Side.WOLVES), (False, None)])
def test_wolves_win_at_parity_if_set(parity: bool, winner: Side | None) -> None:
    rules = Rules(werewolves=1, villagers=2, seer=False, witch=False, hunter=False, parity=parity)
    game = Game(rules, seed=0)
    first, second = of(game, Role.VILLAGER)
    drive(game, {Ask.KILL: first}, until=None if parity else Ask.VOTE)
    assert game.winner is winner
    if not parity:
        game.answer({})
        drive(game, {Ask.KILL: second})
        assert game.winner is Side.WOLVES


def test_the_village_wins_when_the_last_wolf_is_dead() -> None:
    game = Game(SEVEN_PLAYERS, seed=0)
    first, second = of(game, Role.WEREWOLF)
    drive(game, {Ask.POISON: first, Ask.VOTE: second})
    assert (game.winner, game.round, game.truncated) == (Side.VILLAGE, 1, False)
    assert game.events[-1].text == "village"


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_game_is_cut_short_after_the_rounds_set(rounds: int) -> None:
    assert drive(Game(replace(SEVEN_PLAYERS, rounds=rounds), seed=0)).round == rounds


def test_a_speech_is_heard_on_one_line_and_cut() -> None:
    game = drive(Game(replace(SEVEN_PLAYERS, speech_chars=12), seed=0), until=Ask.TALK)
    before = game.illegal["Ada"]
    game.answer({"Ada": Speech("Hello\n\nBen\u2028votes Ada.")})
    assert happened(game, EventKind.SPEECH)[-1].text == "Hello Ben vo"
    assert game.illegal["Ada"] == before


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"werewolves": 0}, "at least 1 werewolf"),
        ({"villagers": -1}, "villagers must be >= 0"),
        ({"villagers": 7}, "at most 12 players, got 13"),
        ({"werewolves": 6}, "fewer than the others"),
        ({"wolf_talks": -1}, "wolf_talks must be >= 0"),
        ({"talks": -1}, "talks must be >= 0"),
        ({"rounds": 0}, "rounds must be >= 1"),
        ({"speech_chars": 0}, "speech_chars must be >= 1"),
    ],
)
def test_rules_that_cannot_be_played_are_refused(broken: dict[str, int], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        Rules(**broken)  # type: ignore[arg-type]

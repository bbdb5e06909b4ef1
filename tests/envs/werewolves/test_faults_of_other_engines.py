"""Faults that engines of this game have had; each test shows that one is absent here."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from astuner_envs.werewolves.engine import Ask, Choice, EventKind, Game, Speech
from astuner_envs.werewolves.rules import NINE_PLAYERS, SEVEN_PLAYERS, Role, Rules, Side, Tie
from astuner_envs.werewolves.words import rules_in_words
from tests.envs.werewolves.driving import drive, happened, of, one, request_of

TIED_GAMES = """
from astuner_envs.werewolves.engine import Game
from astuner_envs.werewolves.players import Uniform, play
from astuner_envs.werewolves.rules import NINE_PLAYERS
for seed in range(10):
    game = Game(NINE_PLAYERS, seed=seed)
    play(game, dict.fromkeys(game.roles, Uniform()))
    print(*game.events, sep="\\n")
"""


def test_ties_do_not_depend_on_the_hash_seed() -> None:
    logs = {
        subprocess.run(
            [sys.executable, "-c", TIED_GAMES],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(logs) == 1
    assert "lynched" in logs.pop()


def test_a_missing_vote_is_no_vote_and_costs_nobody_else() -> None:
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.VOTE)
    before = game.illegal.copy()
    game.answer({"Ada": Choice("Ben"), "Ben": None})
    votes = {event.player: event.target for event in happened(game, EventKind.VOTE)}
    assert votes["Ada"] == "Ben"
    assert {votes[player] for player in game.roles if player != "Ada"} == {""}
    assert [event.player for event in happened(game, EventKind.LYNCHED)] == ["Ben"]
    assert (game.illegal - before)["Ada"] == 0
    assert (game.illegal - before)["Ben"] == (game.illegal - before)["Cleo"] == 1


@pytest.mark.parametrize("nothing", [None, Choice(None), Choice("none")])
def test_a_poison_without_a_target_is_not_used_up(nothing: Choice | None) -> None:
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.POISON)
    witch = one(game, Role.WITCH)
    game.answer({witch: nothing})
    assert not happened(game, EventKind.POISONED)
    drive(game, until=Ask.POISON)
    assert (game.round, game.requests[0].player) == (2, witch)


def test_a_shot_without_a_target_hits_nobody() -> None:
    game = Game(NINE_PLAYERS, seed=0)
    hunter = one(game, Role.HUNTER)
    drive(game, {Ask.KILL: hunter}, until=Ask.SHOOT)
    game.answer({hunter: Choice(None)})
    assert not happened(game, EventKind.SHOT)
    assert len(game.alive) == 8
    assert game.illegal[hunter] == 0


@pytest.mark.parametrize("answer", [None, Choice("none"), Choice("Zoe"), Speech("Ben")])
def test_a_choice_that_cannot_be_read_counts_and_is_no_error(answer: object) -> None:
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.CHECK)
    seer = one(game, Role.SEER)
    game.answer({seer: answer})  # type: ignore[dict-item]
    assert game.illegal == {seer: 1, **dict.fromkeys(of(game, Role.WEREWOLF), 1)}
    assert not happened(game, EventKind.CHECKED)


def test_nobody_may_choose_itself_its_pack_or_the_dead() -> None:
    game = Game(NINE_PLAYERS, seed=0)
    wolves, hunter = of(game, Role.WEREWOLF), one(game, Role.HUNTER)
    seer, witch = one(game, Role.SEER), one(game, Role.WITCH)
    drive(game, until=Ask.KILL)
    others = {*game.roles} - {*wolves}
    assert all({*request.targets} == others for request in game.requests)
    drive(game, {Ask.KILL: hunter}, until=Ask.CHECK)
    assert {*request_of(game, seer).targets} == {*game.roles} - {seer}
    drive(game, until=Ask.POISON)
    assert {*request_of(game, witch).targets} == {*game.roles} - {witch, hunter}
    drive(game, until=Ask.SHOOT)
    assert {*request_of(game, hunter).targets} == {*game.roles} - {hunter}
    drive(game, until=Ask.VOTE)
    living = {*game.roles} - {hunter}
    assert {request.player for request in game.requests} == living
    assert all({*request.targets} == living - {request.player} for request in game.requests)
    drive(game, until=Ask.CHECK)
    assert hunter not in request_of(game, seer).targets


def test_the_seer_knows_who_is_alive() -> None:
    game = Game(SEVEN_PLAYERS, seed=0)
    seer, villager = one(game, Role.SEER), one(game, Role.VILLAGER)
    drive(game, {Ask.KILL: villager}, until=Ask.VOTE)
    drive(game, until=Ask.CHECK)
    assert {*game.view(seer).alive} == {*game.roles} - {villager}


def test_the_night_goes_wolves_then_seer_then_witch() -> None:
    game = Game(SEVEN_PLAYERS, seed=0)
    villager, wolf = one(game, Role.VILLAGER), one(game, Role.WEREWOLF)
    asked = []
    while game.events[-1].kind is not EventKind.DIED:
        ask = game.requests[0].ask
        asked.append(ask)
        target = wolf if ask is Ask.CHECK else villager
        answer = Speech("") if ask.is_speech else Choice(target if ask is not Ask.HEAL else None)
        if ask is Ask.POISON:
            break
        game.answer({request.player: answer for request in game.requests})
    assert asked == [Ask.WOLF_TALK, Ask.WOLF_TALK, Ask.KILL, Ask.CHECK, Ask.HEAL, Ask.POISON]


def test_a_witch_who_is_the_victim_is_told_though_she_may_not_heal_herself() -> None:
    game = Game(SEVEN_PLAYERS, seed=0)
    witch = one(game, Role.WITCH)
    drive(game, {Ask.KILL: witch}, until=Ask.POISON)
    told = [event for event in game.view(witch).events if event.kind is EventKind.VICTIM]
    assert [event.target for event in told] == [witch]


def test_all_wolves_votes_count_not_one_wolfs_word() -> None:
    game = Game(NINE_PLAYERS, seed=0)
    first, second, third = of(game, Role.WEREWOLF)
    villager, seer = one(game, Role.VILLAGER), one(game, Role.SEER)
    kill = {
        (first, Ask.KILL): seer,
        (second, Ask.KILL): villager,
        (third, Ask.KILL): villager,
    }
    drive(game, kill, until=Ask.TALK)
    assert [event.player for event in happened(game, EventKind.DIED)] == [villager]


def test_a_lone_wolf_does_not_talk_to_itself() -> None:
    game = Game(Rules(werewolves=1, villagers=4), seed=0)
    assert [request.ask for request in game.requests] == [Ask.KILL]


def test_a_victim_whom_the_witch_poisons_unknowing_keeps_the_hunters_shot() -> None:
    game = Game(NINE_PLAYERS, seed=0)
    hunter, witch, villager = (
        one(game, Role.HUNTER),
        one(game, Role.WITCH),
        one(game, Role.VILLAGER),
    )
    # Without her healing potion she is not told whom the wolves chose.
    drive(game, {Ask.KILL: villager, Ask.HEAL: villager}, until=Ask.TALK)
    drive(game, until=Ask.KILL)
    drive(game, {Ask.KILL: hunter, (witch, Ask.POISON): hunter}, until=Ask.SHOOT)
    assert game.requests[0].player == hunter
    assert [event.player for event in happened(game, EventKind.DIED)] == [hunter]


def test_poison_alone_takes_the_hunters_shot() -> None:
    game = Game(NINE_PLAYERS, seed=0)
    hunter = one(game, Role.HUNTER)
    drive(game, {Ask.POISON: hunter}, until=Ask.TALK)
    assert [event.player for event in happened(game, EventKind.DIED)] == [hunter]
    assert hunter not in [request.player for request in game.requests]
    assert game.asked[hunter] == 1, "its last words alone"


def test_all_who_die_in_the_first_night_have_last_words() -> None:
    game = Game(NINE_PLAYERS, seed=0)
    wolf, hunter, seer = one(game, Role.WEREWOLF), one(game, Role.HUNTER), one(game, Role.SEER)
    doing = {Ask.KILL: hunter, Ask.POISON: seer, Ask.SHOOT: wolf, Ask.LAST_WORDS: "Farewell."}
    drive(game, doing, until=Ask.TALK)
    spoke = [event.player for event in happened(game, EventKind.LAST_WORDS)]
    assert spoke == [*sorted([hunter, seer]), wolf]


def test_a_shot_in_the_night_is_told_to_all() -> None:
    game = Game(NINE_PLAYERS, seed=0)
    wolf, hunter = one(game, Role.WEREWOLF), one(game, Role.HUNTER)
    drive(game, {Ask.KILL: hunter, Ask.SHOOT: wolf}, until=Ask.TALK)
    (shot,) = happened(game, EventKind.SHOT)
    assert (shot.player, shot.target, shot.seen_by) == (hunter, wolf, None)


def test_a_vote_tells_its_target_and_no_reasons() -> None:
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.VOTE)
    drive(game, {("Ada", Ask.VOTE): "Ben"}, until=Ask.KILL)
    assert {event.text for event in happened(game, EventKind.VOTE)} == {""}


def test_the_round_limit_truncates_and_nobody_wins() -> None:
    game = drive(Game(replace(SEVEN_PLAYERS, rounds=2), seed=0))
    assert (game.round, game.winner, game.truncated) == (2, None, True)
    assert game.events[-1].kind is EventKind.ENDED
    assert game.events[-1].text == ""


def test_if_all_are_dead_the_village_has_won() -> None:
    rules = Rules(werewolves=1, villagers=1, seer=False, hunter=False, parity=False, tie=Tie.NONE)
    game = Game(rules, seed=0)
    wolf, witch = one(game, Role.WEREWOLF), one(game, Role.WITCH)
    drive(game, {Ask.KILL: one(game, Role.VILLAGER)}, until=Ask.VOTE)
    drive(game, {Ask.KILL: witch, Ask.POISON: wolf})
    assert (game.alive, game.winner) == ((), Side.VILLAGE)


def test_parity_waits_for_the_hunters_shot() -> None:
    game = Game(Rules(werewolves=1, villagers=1, seer=False, witch=False), seed=0)
    wolf, hunter = one(game, Role.WEREWOLF), one(game, Role.HUNTER)
    drive(game, {Ask.KILL: hunter}, until=Ask.SHOOT)
    assert game.winner is None
    drive(game, {Ask.SHOOT: wolf})
    assert game.winner is Side.VILLAGE


@pytest.mark.parametrize(("parity", "winner"), [(True, Side.WOLVES), (False, None)])
def test_players_are_told_the_condition_by_which_wolves_win(
    parity: bool, winner: Side | None
) -> None:
    rules = Rules(werewolves=1, villagers=2, seer=False, witch=False, hunter=False, parity=parity)
    game = Game(rules, seed=0)
    drive(game, {Ask.KILL: one(game, Role.VILLAGER)}, until=None if parity else Ask.TALK)
    assert game.winner is winner
    words = "half of the living" if parity else "alone are alive"
    assert words in rules_in_words(rules)


def test_a_game_leaves_global_random_numbers_alone() -> None:
    random.seed(7)
    before = random.getstate()
    drive(Game(NINE_PLAYERS, seed=0))
    assert random.getstate() == before
    random.seed(8)
    assert drive(Game(NINE_PLAYERS, seed=0)).roles == drive(Game(NINE_PLAYERS, seed=0)).roles

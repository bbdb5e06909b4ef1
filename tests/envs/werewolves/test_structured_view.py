"""The structured view: arrays, actions, and that it plays the very game of the engine."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_envs.werewolves.arrays import Arrays
from astuner_envs.werewolves.engine import Answer, Ask, Choice, EventKind, Game, Request, Speech
from astuner_envs.werewolves.players import PLAYERS, draws, play
from astuner_envs.werewolves.rules import NINE_PLAYERS, SEVEN_PLAYERS, Role, Rules, Side
from astuner_envs.werewolves.talk import NOTHING
from astuner_envs.werewolves.view import StructuredWerewolves
from astuner_gym.errors import SettingError
from tests.envs.werewolves.driving import drive, one

ADA, BEN, CLEO, DAN = range(4)


def choose(seat: int) -> int:
    return 1 + seat


def test_an_action_names_a_player_and_what_is_said_of_it() -> None:
    arrays = Arrays(SEVEN_PLAYERS)
    assert arrays.action_space.n == 36
    talk, vote = Request("Ada", Ask.TALK), Request("Ada", Ask.VOTE, ("Ben",))
    assert arrays.answer(0, vote) == Choice(None)
    assert arrays.answer(0, talk) == Speech(NOTHING)
    for action, answer in {
        choose(BEN): Choice("Ben"),
        7 + choose(BEN): Speech("I suspect Ben."),
        14 + choose(BEN): Speech("I trust Ben."),
        21 + choose(BEN): Speech("I checked Ben: werewolf."),
        28 + choose(BEN): Speech("I checked Ben: village."),
    }.items():
        assert arrays.answer(action, talk) == answer
        assert arrays.action(answer) == action


@pytest.mark.parametrize("outside", [-1, 36, 10**9])
def test_an_action_outside_the_space_is_no_answer(outside: int) -> None:
    assert Arrays(SEVEN_PLAYERS).answer(outside, Request("Ada", Ask.TALK)) is None


def test_the_action_for_a_speech_is_that_for_its_first_claim() -> None:
    arrays = Arrays(SEVEN_PLAYERS)
    assert arrays.action(Speech("Hm. I trust Ben. I suspect Cleo.")) == 14 + choose(BEN)
    assert arrays.action(Speech("What a night!")) == 0
    assert arrays.action(Speech("I suspect Leo.")) == 0, "who does not play"
    assert arrays.action(None) == -1


def test_the_mask_holds_what_is_asked_for() -> None:
    arrays = Arrays(SEVEN_PLAYERS)
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.POISON)
    witch = one(game, Role.WITCH)
    mask = arrays.observe(game.view(witch), game.requests[0])["action_mask"]
    others = [seat for seat, name in enumerate(SEVEN_PLAYERS.players) if name != witch]
    assert np.flatnonzero(mask).tolist() == [0, *map(choose, others)]
    assert not arrays.observe(game.view(witch), None)["action_mask"].any()


def test_the_arrays_show_what_the_player_saw() -> None:
    arrays = Arrays(SEVEN_PLAYERS)
    game = Game(SEVEN_PLAYERS, seed=0)
    names = SEVEN_PLAYERS.players
    seer, witch = one(game, Role.SEER), one(game, Role.WITCH)
    wolf, other = [player for player in names if game.roles[player] is Role.WEREWOLF]
    victim, accused, _ = [player for player in names if game.roles[player] is Role.VILLAGER]
    seat = names.index
    drive(
        game,
        {
            (wolf, Ask.WOLF_TALK): f"I suspect {seer}.",
            Ask.KILL: victim,
            Ask.CHECK: wolf,
            Ask.POISON: other,
            (seer, Ask.TALK): f"I checked {wolf}: werewolf. I trust {witch}.",
        },
        until=Ask.VOTE,
    )
    game.answer({seer: Choice(accused), witch: Choice(accused)})
    drive(game, until=Ask.KILL)

    seen = {player: arrays.observe(game.view(player), None) for player in names}
    for observation in seen.values():
        assert arrays.observation_space.contains(observation)
        assert observation["round"].tolist() == [2]
        alive = [int(player not in (victim, other, accused)) for player in names]
        assert observation["alive"].tolist() == alive
        assert np.argwhere(observation["fates"]).tolist() == sorted(
            [[seat(victim), 0], [seat(other), 0], [seat(accused), 1]]
        )
        assert np.argwhere(observation["votes"]).tolist() == sorted(
            [[seat(seer), seat(accused)], [seat(witch), seat(accused)]]
        )
        assert np.argwhere(observation["claims"]).tolist() == sorted(
            [[seat(seer), seat(wolf), 2], [seat(seer), seat(witch), 1]]
        )
        assert observation["claims"].max() == 1, "said in round 1"
    assert np.flatnonzero(seen[seer]["checks"]).tolist() == [seat(wolf)]
    assert seen[seer]["checks"][seat(wolf)] == 1
    assert seen[witch]["potions"].tolist() == [1, 0]
    assert np.argwhere(seen[other]["pack_claims"]).tolist() == [[seat(wolf), seat(seer), 0]]
    assert {*np.flatnonzero(seen[wolf]["pack"])} == {seat(wolf), seat(other)}
    for player in (seer, witch, accused):
        assert not seen[player]["pack"].any()
        assert not seen[player]["pack_claims"].any()
        assert not seen[player]["kill_votes"].any()
    for player in (wolf, witch, accused):
        assert not seen[player]["checks"].any()


def test_a_new_vote_takes_the_place_of_the_last() -> None:
    arrays = Arrays(SEVEN_PLAYERS)
    game = drive(Game(SEVEN_PLAYERS, seed=0), until=Ask.VOTE)
    game.answer({"Ada": Choice("Ben"), "Cleo": Choice("Ben")})
    drive(game, until=Ask.VOTE)
    votes = arrays.observe(game.view("Ada"), game.requests[0])["votes"]
    assert np.argwhere(votes).tolist() == [[ADA, BEN], [CLEO, BEN]]
    game.answer({"Ada": Choice("Dan")})
    votes = arrays.observe(game.view("Ada"), None)["votes"]
    assert np.argwhere(votes).tolist() == [[ADA, DAN]]


@pytest.mark.parametrize("rules", [SEVEN_PLAYERS, NINE_PLAYERS], ids=["seven", "nine"])
@pytest.mark.parametrize("village", PLAYERS)
@pytest.mark.parametrize("wolves", PLAYERS)
def test_equal_seeds_and_decisions_give_the_log_of_the_engine(
    rules: Rules, village: str, wolves: str
) -> None:
    names = {Side.VILLAGE: village, Side.WOLVES: wolves}
    arrays = Arrays(rules)
    env = StructuredWerewolves(rules)
    for seed in range(5):
        game = Game(rules, seed=seed)
        players = {player: PLAYERS[names[role.side]]() for player, role in game.roles.items()}
        play(game, players)
        observations, _ = env.reset(seed=seed)
        while env.agents:
            actions = {}
            for request in env.game.requests:
                player = request.player
                answer = players[player].decide(
                    request, env.game.view(player), draws(env.game, request)
                )
                actions[player] = arrays.action(answer)
                assert observations[player]["action_mask"][actions[player]]
            observations, *_ = env.step(actions)
        assert env.game.events == game.events
        scripted = StructuredWerewolves(rules, scripted={"village": village})
        scripted.reset(seed=seed)
        while scripted.agents:
            requests = {request.player: request for request in scripted.game.requests}
            scripted.step(
                {
                    player: arrays.action(
                        players[player].decide(
                            requests[player],
                            scripted.game.view(player),
                            draws(scripted.game, requests[player]),
                        )
                    )
                    for player in scripted.agents
                }
            )
        assert scripted.game.events == game.events


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_any_actions_play_as_the_same_answers_play_the_engine(
    seed: int, data: st.DataObject
) -> None:
    arrays = Arrays(SEVEN_PLAYERS)
    env = StructuredWerewolves(SEVEN_PLAYERS)
    engine = Game(SEVEN_PLAYERS, seed=seed)
    observations, _ = env.reset(seed=seed)
    illegal = dict.fromkeys(env.possible_agents, 0)
    while env.agents:
        actions, answers = {}, dict[str, Answer]()
        for request in engine.requests:
            mask = observations[request.player]["action_mask"]
            wild = data.draw(st.integers(0, 9)) == 0
            pool = st.integers(-2, 40) if wild else st.sampled_from(np.flatnonzero(mask).tolist())
            action = data.draw(pool)
            actions[request.player] = action
            answers[request.player] = arrays.answer(action, request)
        engine.answer(answers)
        observations, rewards, terminations, truncations, infos = env.step(actions)
        assert {*observations} == {*rewards} == {*terminations} == {*truncations} == {*infos}
        if env.agents:
            assert [*observations] == env.agents
            assert {*rewards.values()} == {0.0}
            assert not any((*terminations.values(), *truncations.values()))
        illegal |= {player: info["illegal"] for player, info in infos.items()}
        for player, observation in observations.items():
            assert env.observation_space(player).contains(observation)
    assert env.game.events == engine.events
    assert illegal == {player: engine.illegal[player] for player in env.possible_agents}
    assert {*rewards} == {*env.possible_agents}
    for player, reward in rewards.items():
        won = engine.roles[player].side is engine.winner
        assert reward == (0 if engine.winner is None else 1 if won else -1)
        assert (terminations[player], truncations[player]) == (
            engine.winner is not None,
            engine.truncated,
        )
        assert infos[player]["winner"] == engine.winner


def test_uniform_draws_from_the_mask_are_the_uniform_player() -> None:
    arrays = Arrays(NINE_PLAYERS)
    game = Game(NINE_PLAYERS, seed=0)
    while game.requests:
        for request in game.requests:
            view = game.view(request.player)
            actions = {
                arrays.action(PLAYERS["uniform"]().decide(request, view, Random(seed)))
                for seed in range(400)
            }
            mask = arrays.observe(view, request)["action_mask"]
            assert actions == {*np.flatnonzero(mask)}
        game.answer({request.player: Choice(None) for request in game.requests})


def test_only_controlled_players_act_and_the_dead_ones_are_rewarded_at_the_end() -> None:
    env = StructuredWerewolves(scripted={"village": "seer_following"})
    died = 0
    for seed in range(20):
        env.reset(seed=seed)
        wolves = [who for who, role in env.game.roles.items() if role is Role.WEREWOLF]
        assert env.controlled == wolves
        while env.agents:
            assert {*env.agents} <= {*wolves}
            *_, rewards, _, _, infos = env.step(dict.fromkeys(env.agents, choose(BEN)))
        assert [*rewards] == wolves
        assert {info["role"] for info in infos.values()} == {"werewolf"}
        died += sum(wolf not in env.game.alive for wolf in wolves)
    assert died


def test_seats_are_scripted_by_role_or_by_side() -> None:
    env = StructuredWerewolves(scripted={"wolves": "careful", "seer": "uniform"})
    env.reset(seed=0)
    roles = [env.game.roles[player] for player in env.controlled]
    assert sorted(roles) == [Role.VILLAGER] * 3 + [Role.WITCH]


def test_a_role_goes_before_its_side() -> None:
    scripted = {"village": "seer_following", "seer": "uniform"}
    said = set()
    for seed in range(30):
        env = StructuredWerewolves(scripted=scripted)
        env.reset(seed=seed)
        while env.agents:
            env.step(dict.fromkeys(env.agents, 0))
        seer = one(env.game, Role.SEER)
        for event in env.game.events:
            if event.kind is EventKind.SPEECH and env.game.roles[event.player].side != "wolves":
                said.add((event.player == seer, "suspect" in event.text))
    assert (True, True) in said, "a uniform seer suspects"
    assert (False, True) not in said, "seer-following villagers do not"


def test_resets_without_a_seed_go_on_from_the_last_one() -> None:
    def deals(seed: int) -> list[int]:
        env = StructuredWerewolves()
        env.reset(seed=seed)
        seeds = [env.game.seed]
        for _ in range(3):
            env.reset()
            seeds.append(env.game.seed)
        return seeds

    assert deals(5) == deals(5)
    assert deals(5)[0] == 5
    assert deals(5) != deals(6)
    assert len({*deals(5)}) == 4


def test_actions_of_others_or_missing_ones_are_errors_and_change_nothing() -> None:
    env = StructuredWerewolves()
    env.reset(seed=0)
    before = list(env.game.events)
    (agent,) = env.agents
    other = next(player for player in env.possible_agents if player != agent)
    for actions in ({}, {other: 0}, {agent: 0, other: 0}, {agent: 0, "Zoe": 0}):
        with pytest.raises(InvalidAction, match="each player who must act needs one action"):
            env.step(actions)
    with pytest.raises(TypeError):
        env.step({agent: "1"})  # type: ignore[dict-item]
    assert env.game.events == before
    env.step({agent: np.int64(0)})
    assert len(env.game.events) > len(before)


def test_a_step_needs_a_game_under_way() -> None:
    env = StructuredWerewolves()
    with pytest.raises(ResetNeeded):
        env.step({})
    with pytest.raises(ResetNeeded):
        env.game  # noqa: B018
    env.reset(seed=0)
    while env.agents:
        env.step(dict.fromkeys(env.agents, 0))
    assert env.game.events[-1].kind is EventKind.ENDED
    with pytest.raises(ResetNeeded):
        env.step({})


@pytest.mark.parametrize(
    ("scripted", "told"),
    [
        ({"wolf": "uniform"}, "roles or sides"),
        ({"village": "clever"}, "must be one of"),
        ({"village": "uniform", "wolves": "uniform"}, "at least one role must be controlled"),
    ],
)
def test_seats_that_cannot_be_filled_are_refused(scripted: dict[str, str], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        StructuredWerewolves(scripted=scripted)

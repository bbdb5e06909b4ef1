"""What the scripted players do in small positions."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

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
    View,
    is_legal,
)
from astuner_envs.werewolves.players import (
    PLAYERS,
    Careful,
    Player,
    SeerFollowing,
    Uniform,
    draws,
    play,
    speeches,
)
from astuner_envs.werewolves.rules import NINE_PLAYERS, SEVEN_PLAYERS, Role, Rules, Side

EVERYBODY = SEVEN_PLAYERS.players


def knows(
    player: str,
    role: Role,
    *events: Event,
    pack: tuple[str, ...] = (),
    alive: tuple[str, ...] = EVERYBODY,
) -> View:
    """The view of a player on the first day."""
    return View(
        player=player,
        rules=SEVEN_PLAYERS,
        events=(
            Event(EventKind.ROLE, 0, player, text=role, seen_by=(player,)),
            *(Event(EventKind.PACK, 0, wolf, seen_by=pack) for wolf in pack),
            *events,
        ),
        alive=alive,
    )


def says(player: str, text: str) -> Event:
    return Event(EventKind.SPEECH, 1, player, text=text)


def checked(seer: str, target: str, side: Side) -> Event:
    return Event(EventKind.CHECKED, 1, seer, target, text=side, seen_by=(seer,))


def choices(player: Player, request: Request, view: View) -> set[str | None]:
    """Everything that the player may choose, over many draws."""
    chosen = set()
    for seed in range(60):
        answer = player.decide(request, view, Random(seed))
        assert isinstance(answer, Choice)
        chosen.add(answer.target)
    return chosen


def said(player: Player, request: Request, view: View) -> set[str]:
    """Everything that the player may say, over many draws."""
    answers = [player.decide(request, view, Random(seed)) for seed in range(60)]
    assert all(isinstance(answer, Speech) for answer in answers)
    return {answer.text for answer in answers if isinstance(answer, Speech)}


def vote(player: str) -> Request:
    return Request(player, Ask.VOTE, tuple(name for name in EVERYBODY if name != player))


class TestUniform:
    def test_it_chooses_everything_that_is_allowed(self) -> None:
        view = knows("Ada", Role.WITCH)
        heal = Request("Ada", Ask.HEAL, ("Ben",), may_pass=True)
        assert choices(Uniform(), heal, view) == {"Ben", None}
        assert choices(Uniform(), vote("Ada"), view) == {*EVERYBODY} - {"Ada"}

    def test_it_says_everything_that_can_be_said(self) -> None:
        view = knows("Ada", Role.VILLAGER, alive=("Ada", "Ben"))
        assert said(Uniform(), Request("Ada", Ask.TALK), view) == {
            "I have nothing to say.",
            "I suspect Ben.",
            "I trust Ben.",
            "I checked Ben: werewolf.",
            "I checked Ben: village.",
        }
        assert len(speeches(knows("Ada", Role.VILLAGER))) == 1 + 4 * 6


class TestSeerFollowing:
    def test_the_seer_tells_of_a_werewolf_before_all_else(self) -> None:
        view = knows(
            "Ada",
            Role.SEER,
            checked("Ada", "Ben", Side.WOLVES),
            checked("Ada", "Cleo", Side.VILLAGE),
        )
        talk = Request("Ada", Ask.TALK)
        assert said(SeerFollowing(), talk, view) == {"I checked Ben: werewolf."}

    def test_the_seer_tells_what_it_learnt_last_if_it_knows_no_werewolf(self) -> None:
        view = knows(
            "Ada",
            Role.SEER,
            checked("Ada", "Ben", Side.VILLAGE),
            checked("Ada", "Cleo", Side.VILLAGE),
        )
        talk = Request("Ada", Ask.TALK)
        assert said(SeerFollowing(), talk, view) == {"I checked Cleo: village."}

    def test_the_seer_checks_nobody_twice(self) -> None:
        view = knows("Ada", Role.SEER, checked("Ada", "Ben", Side.VILLAGE))
        check = Request("Ada", Ask.CHECK, ("Ben", "Cleo", "Dan"))
        assert choices(SeerFollowing(), check, view) == {"Cleo", "Dan"}

    def test_others_say_nothing(self) -> None:
        view = knows("Ada", Role.VILLAGER, says("Ben", "I suspect Cleo."))
        talk = Request("Ada", Ask.TALK)
        assert said(SeerFollowing(), talk, view) == {"I have nothing to say."}

    def test_it_votes_for_whom_the_seer_called_a_werewolf(self) -> None:
        view = knows("Ada", Role.VILLAGER, says("Ben", "I checked Cleo: werewolf."))
        assert choices(SeerFollowing(), vote("Ada"), view) == {"Cleo"}

    def test_it_believes_the_first_of_two_seers_and_votes_for_the_other(self) -> None:
        view = knows(
            "Ada",
            Role.VILLAGER,
            says("Ben", "I checked Dan: village."),
            says("Cleo", "I checked Ben: werewolf."),
        )
        assert choices(SeerFollowing(), vote("Ada"), view) == {"Cleo"}

    def test_it_knows_a_seer_who_accuses_it_for_a_liar(self) -> None:
        view = knows(
            "Ada",
            Role.VILLAGER,
            says("Ben", "I checked Ada: werewolf."),
            says("Cleo", "I checked Dan: werewolf."),
        )
        assert choices(SeerFollowing(), vote("Ada"), view) == {"Dan"}

    def test_the_seer_knows_every_other_seer_for_a_liar(self) -> None:
        view = knows("Ada", Role.SEER, says("Ben", "I checked Cleo: werewolf."))
        assert choices(SeerFollowing(), vote("Ada"), view) == {"Ben"}

    def test_without_a_seer_it_votes_for_the_most_suspected(self) -> None:
        view = knows(
            "Ada",
            Role.VILLAGER,
            says("Ben", "I suspect Cleo."),
            says("Dan", "I suspect Eva."),
            says("Finn", "I suspect Eva."),
        )
        assert choices(SeerFollowing(), vote("Ada"), view) == {"Eva"}

    def test_it_does_not_vote_for_those_who_were_cleared(self) -> None:
        view = knows("Ada", Role.VILLAGER, says("Ben", "I checked Cleo: village."))
        assert choices(SeerFollowing(), vote("Ada"), view) == {"Dan", "Eva", "Finn", "Gus"}

    def test_the_witch_heals_and_poisons_only_whom_a_seer_called_a_werewolf(self) -> None:
        heal = Request("Ada", Ask.HEAL, ("Ben",), may_pass=True)
        poison = Request("Ada", Ask.POISON, EVERYBODY[1:], may_pass=True)
        nothing = knows("Ada", Role.WITCH, says("Ben", "I suspect Cleo."))
        assert choices(SeerFollowing(), heal, nothing) == {"Ben"}
        assert choices(SeerFollowing(), poison, nothing) == {None}
        named = knows("Ada", Role.WITCH, says("Ben", "I checked Cleo: werewolf."))
        assert choices(SeerFollowing(), poison, named) == {"Cleo"}

    def test_the_hunter_shoots_whom_a_seer_called_a_werewolf_or_nobody(self) -> None:
        shoot = Request("Ada", Ask.SHOOT, EVERYBODY[1:], may_pass=True)
        assert choices(SeerFollowing(), shoot, knows("Ada", Role.HUNTER)) == {None}
        named = knows("Ada", Role.HUNTER, says("Ben", "I checked Cleo: werewolf."))
        assert choices(SeerFollowing(), shoot, named) == {"Cleo"}


class TestCareful:
    pack = ("Ada", "Ben")

    def test_wolves_kill_who_claimed_to_be_the_seer(self) -> None:
        view = knows("Ada", Role.WEREWOLF, says("Cleo", "I checked Dan: village."), pack=self.pack)
        kill = Request("Ada", Ask.KILL, EVERYBODY[2:])
        assert choices(Careful(), kill, view) == {"Cleo"}

    def test_wolves_spare_their_own_even_where_the_rules_do_not(self) -> None:
        view = knows("Ada", Role.WEREWOLF, says("Ben", "I checked Cleo: werewolf."), pack=self.pack)
        kill = Request("Ada", Ask.KILL, EVERYBODY)
        assert choices(Careful(), kill, view) == {*EVERYBODY} - {*self.pack}

    def test_wolves_do_not_vote_for_each_other(self) -> None:
        view = knows("Ada", Role.WEREWOLF, pack=self.pack)
        assert choices(Careful(), vote("Ada"), view) == {*EVERYBODY} - {*self.pack}

    def test_the_first_wolf_claims_to_be_the_seer_and_the_second_agrees(self) -> None:
        talk = Request("Ada", Ask.TALK)
        accusations = said(Careful(), talk, knows("Ada", Role.WEREWOLF, pack=self.pack))
        assert accusations == {f"I checked {name}: werewolf." for name in EVERYBODY[2:]}
        second = knows(
            "Ben", Role.WEREWOLF, says("Ada", "I checked Cleo: werewolf."), pack=self.pack
        )
        assert said(Careful(), Request("Ben", Ask.TALK), second) == {"I suspect Cleo."}
        assert choices(Careful(), vote("Ben"), second) == {"Cleo"}

    def test_the_second_wolf_waits_for_the_first(self) -> None:
        view = knows("Ben", Role.WEREWOLF, pack=self.pack)
        assert said(Careful(), Request("Ben", Ask.TALK), view) == {"I have nothing to say."}

    def test_the_village_is_seer_following(self) -> None:
        view = knows("Ada", Role.VILLAGER, says("Ben", "I checked Cleo: werewolf."))
        assert choices(Careful(), vote("Ada"), view) == {"Cleo"}


@pytest.mark.parametrize("name", PLAYERS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rules=st.sampled_from((SEVEN_PLAYERS, NINE_PLAYERS)))
def test_scripted_players_never_answer_against_the_rules(
    name: str, seed: int, rules: Rules
) -> None:
    game = Game(rules, seed=seed)
    play(game, dict.fromkeys(game.roles, PLAYERS[name]()))
    assert not +game.illegal


@pytest.mark.parametrize("make", [Uniform, Careful, SeerFollowing])
def test_a_decision_is_a_function_of_request_view_and_draws(make: Callable[[], Player]) -> None:
    game = Game(NINE_PLAYERS, seed=1)
    warm = make()
    while game.requests:
        answers: dict[str, Answer] = {}
        for request in game.requests:
            view = game.view(request.player)
            answers[request.player] = warm.decide(request, view, draws(game, request))
            assert make().decide(request, view, draws(game, request)) == answers[request.player]
            assert is_legal(request, answers[request.player])
        game.answer(answers)


def test_wolves_win_more_by_care_and_the_village_by_following_its_seer() -> None:
    def wolves_win(village: str, wolves: str) -> float:
        won = 0
        for seed in range(200):
            game = Game(SEVEN_PLAYERS, seed=seed)
            names = {Side.WOLVES: wolves, Side.VILLAGE: village}
            play(game, {who: PLAYERS[names[role.side]]() for who, role in game.roles.items()})
            won += game.winner is Side.WOLVES
        return won / 200

    chance = wolves_win("seer_following", "uniform")
    assert 0.3 < chance < 0.6
    assert wolves_win("seer_following", "careful") > chance + 0.1
    assert wolves_win("uniform", "uniform") > chance + 0.1

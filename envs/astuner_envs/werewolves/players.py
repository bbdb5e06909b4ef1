"""Scripted players with names: baselines to be compared with, and opponents to be trained against.

A player decides by its view alone and draws from the random numbers that it is given, so a game
between scripted players is a function of its seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Protocol

from astuner_envs.werewolves.engine import Answer, Choice, Game, Request, Speech, View
from astuner_envs.werewolves.talk import NOTHING, Claim


class Player(Protocol):
    """Plays any role."""

    def decide(self, request: Request, view: View, random: Random) -> Answer:
        """Return the answer to a request."""
        ...


class Uniform:
    """Chooses among everything that is allowed, each as likely as the other, talk included."""

    def decide(self, request: Request, view: View, random: Random) -> Answer:
        """Return a legal answer, drawn uniformly."""
        if request.ask.is_speech:
            return Speech(random.choice(speeches(view)))
        nobody = (None,) if request.may_pass else ()
        choices = (*request.targets, *nobody)
        return Choice(random.choice(choices)) if choices else None


def speeches(view: View) -> tuple[str, ...]:
    """Return everything that can be said in the sentences of :mod:`astuner_envs.werewolves.talk`.

    It is of living players other than the speaker.
    """
    others = [player for player in view.alive if player != view.player]
    return (
        NOTHING,
        *(
            str(Claim(target, is_wolf, checked))
            for checked in (False, True)
            for is_wolf in (True, False)
            for target in others
        ),
    )


PLAYERS: Mapping[str, type[Player]] = {"uniform": Uniform}
"""By the names that settings use."""


def draws(game: Game, request: Request) -> Random:
    """Return the random numbers for one answer: named by seed, player and request."""
    return Random(f"werewolves/{game.seed}/{request.player}/{game.asked[request.player]}")


def play(game: Game, players: Mapping[str, Player]) -> None:
    """Play a game to its end, each seat by its player."""
    while game.requests:
        game.answer(
            {
                request.player: players[request.player].decide(
                    request, game.view(request.player), draws(game, request)
                )
                for request in game.requests
            }
        )

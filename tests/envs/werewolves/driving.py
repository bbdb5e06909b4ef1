"""Plays games in tests: whoever is not told what to do says nothing and chooses nobody."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TypeAlias

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
)
from astuner_envs.werewolves.rules import Role

Doing: TypeAlias = Mapping[Ask | tuple[str, Ask], str]
"""The target or the words, by what is asked, or by who is asked for what."""


class Quiet:
    """Does what it is told, and nothing else."""

    def __init__(self, doing: Doing | None = None) -> None:
        self._doing = doing or {}

    def decide(self, request: Request, view: View, random: Random) -> Answer:
        done = self._doing.get((request.player, request.ask), self._doing.get(request.ask))
        if request.ask.is_speech:
            return Speech(done or "")
        if done is None and not request.may_pass:
            return None
        return Choice(done)


def drive(game: Game, doing: Doing | None = None, *, until: Ask | None = None) -> Game:
    """Answer until something is asked for, which is not answered, or the game is over."""
    player = Quiet(doing)
    while game.requests and game.requests[0].ask is not until:
        game.answer(
            {
                request.player: player.decide(request, game.view(request.player), Random(0))
                for request in game.requests
            }
        )
    assert until is None or game.requests, f"{until} was never asked for"
    return game


def of(game: Game, role: Role) -> list[str]:
    """The players of a role, by seat."""
    return [player for player, dealt in game.roles.items() if dealt is role]


def one(game: Game, role: Role) -> str:
    """The first player of a role."""
    return of(game, role)[0]


def happened(game: Game, *kinds: EventKind) -> list[Event]:
    """The events of some kinds, in order."""
    return [event for event in game.events if event.kind in kinds]


def request_of(game: Game, player: str) -> Request:
    """What a player is asked now."""
    return next(request for request in game.requests if request.player == player)

"""The structured view: the same game for classic reinforcement learning, without a language model.

Observations and actions are the arrays of :mod:`astuner_envs.werewolves.arrays`; the engine is the
one that the workflow plays by::

    env = StructuredWerewolves(scripted={"village": "seer_following"})
    observations, infos = env.reset(seed=0)
    while env.agents:
        actions = {
            agent: env.action_space(agent).sample(observations[agent]["action_mask"])
            for agent in env.agents
        }
        observations, rewards, terminations, truncations, infos = env.step(actions)
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from random import Random
from typing import SupportsIndex, TypeAlias, TypedDict

import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded

from astuner_envs.werewolves.arrays import Arrays, Observation
from astuner_envs.werewolves.engine import Answer, Game, Request
from astuner_envs.werewolves.players import PLAYERS, Player, draws
from astuner_envs.werewolves.rules import SEVEN_PLAYERS, Role, Rules, Side
from astuner_gym.errors import SettingError


class Info(TypedDict):
    """What is known of a player beside its observation."""

    role: str
    illegal: int
    """Its actions so far that the rules did not allow."""
    winner: str | None
    """The side that has won; None before the end, and of a game that was cut short."""


Start: TypeAlias = tuple[dict[str, Observation], dict[str, Info]]
Step: TypeAlias = tuple[
    dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]
]


class StructuredWerewolves:
    """A multi-agent environment whose agents are the players, by name.

    Dicts of a step hold the players who must act now. At the end of the game they hold every
    controlled player, the dead ones too: all who win get 1, all who lose -1, and nobody anything
    if the round limit cut the game short, which truncates it. Roles are dealt anew in each game,
    so with scripted sides other seats are controlled each time.
    """

    def __init__(
        self, rules: Rules = SEVEN_PLAYERS, *, scripted: Mapping[str, str] | None = None
    ) -> None:
        """Make the environment.

        Args:
            rules: Of the game.
            scripted: Names of the scripted players on the seats that are not controlled, by role
                or by side, such as ``{"village": "uniform", "seer": "careful"}``; a role goes
                before its side. All seats are controlled if None.

        Raises:
            SettingError: A role, side or player is unknown, or no seat is controlled.
        """
        self.rules = rules
        self.possible_agents = list(rules.players)
        self.agents: list[str] = []
        """Players who must act now, by seat."""
        self._scripts = _scripts(rules, scripted or {})
        self._arrays = Arrays(rules)
        self._random = Random()
        self._game: Game | None = None
        self._controlled: list[str] = []
        self._requests: dict[str, Request] = {}

    @property
    def game(self) -> Game:
        """The game under way, with its event log.

        Raises:
            ResetNeeded: No game has begun.
        """
        if self._game is None:
            raise ResetNeeded("there is no game before the first reset; call reset")
        return self._game

    @property
    def controlled(self) -> list[str]:
        """Players of this game who are not scripted, by seat."""
        return list(self._controlled)

    def observation_space(self, agent: str) -> spaces.Dict:
        """Return the space of a player's observations: the same object for all."""
        return self._arrays.observation_space

    def action_space(self, agent: str) -> spaces.Discrete[np.int64]:
        """Return the space of a player's actions: the same object for all."""
        return self._arrays.action_space

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> Start:
        """Begin a game.

        Args:
            seed: The game's, as the engine takes it; those of later games are drawn from it, and
                the draws go on if None.
            options: Ignored: there are none.
        """
        if seed is None:
            seed = self._random.randrange(2**31)
        else:
            self._random = Random(seed)
        self._game = Game(self.rules, seed=seed)
        self._controlled = [
            player for player, role in self._game.roles.items() if role not in self._scripts
        ]
        self._advance(self._game)
        return self._observe(self.agents), self._infos(self.agents)

    def step(self, actions: Mapping[str, SupportsIndex]) -> Step:
        """Play the actions, and go on until a controlled player must act or the game ends.

        An action that the rules do not allow, or outside the space, is what an illegal answer is
        to the engine: silence, no vote, or a power that is not used.

        Args:
            actions: One for each player who must act.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            InvalidAction: A player who must act is missing, or another one acts.
            ResetNeeded: No game is under way.
            TypeError: An action is not an integer.
        """
        if self._game is None or not self.agents:
            raise ResetNeeded(
                "step needs a game under way, and there is none or it is over; call reset"
            )
        if actions.keys() != {*self.agents}:
            raise InvalidAction(
                f"each player who must act needs one action and no other may act: the players are "
                f"{self.agents}, got actions of {sorted(actions, key=repr)}"
            )
        answers = {
            player: self._arrays.answer(operator.index(action), self._requests[player])
            for player, action in actions.items()
        }
        game = self._game
        game.answer(answers | self._scripted_answers(game))
        self._advance(game)
        players = self._controlled if game.is_over else self.agents
        return (
            self._observe(players),
            {player: _reward(game, player) for player in players},
            dict.fromkeys(players, game.winner is not None),
            dict.fromkeys(players, game.truncated),
            self._infos(players),
        )

    def close(self) -> None:
        """Do nothing: a game holds no resources."""

    def _advance(self, game: Game) -> None:
        """Let scripted players answer as long as they alone are asked."""
        while True:
            self._requests = {
                request.player: request
                for request in game.requests
                if request.player in self._controlled
            }
            self.agents = list(self._requests)
            if self.agents or game.is_over:
                return
            game.answer(self._scripted_answers(game))

    def _scripted_answers(self, game: Game) -> dict[str, Answer]:
        return {
            request.player: self._scripts[game.roles[request.player]].decide(
                request, game.view(request.player), draws(game, request)
            )
            for request in game.requests
            if request.player not in self._controlled
        }

    def _observe(self, players: list[str]) -> dict[str, Observation]:
        return {
            player: self._arrays.observe(self.game.view(player), self._requests.get(player))
            for player in players
        }

    def _infos(self, players: list[str]) -> dict[str, Info]:
        game = self.game
        winner = None if game.winner is None else game.winner.value
        return {
            player: Info(role=game.roles[player].value, illegal=game.illegal[player], winner=winner)
            for player in players
        }


def _scripts(rules: Rules, scripted: Mapping[str, str]) -> dict[Role, Player]:
    """Return the player of each scripted role."""
    known = [*Role, *Side]
    for who, name in scripted.items():
        if who not in known:
            raise SettingError(
                f"scripted must name roles or sides, {[*map(str, known)]}, got {who!r}"
            )
        if name not in PLAYERS:
            raise SettingError(f"scripted[{who!r}] must be one of {[*PLAYERS]}, got {name!r}")
    names = {role: scripted.get(role, scripted.get(role.side)) for role in Role}
    if all(names[role] is not None for role in rules.roles):
        raise SettingError(
            f"at least one role must be controlled, got scripted={dict(scripted)}; leave one out"
        )
    return {role: PLAYERS[name]() for role, name in names.items() if name is not None}


def _reward(game: Game, player: str) -> float:
    if game.winner is None:
        return 0.0
    return 1.0 if game.roles[player].side is game.winner else -1.0

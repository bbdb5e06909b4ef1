"""Games between uniform players, in words: what a model imitates before it learns to win.

A model that plays uniformly at random knows the form of the game and nothing of its strategy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from astuner_envs.werewolves.engine import Answer, Game, Request
from astuner_envs.werewolves.players import Player, Uniform, draws
from astuner_envs.werewolves.rules import Rules
from astuner_envs.werewolves.words import Transcript, introduction, write
from astuner_gym.chat.messages import ChatMessage, ChatRole, Conversation


@dataclass(frozen=True, slots=True)
class GameConversations:
    """The conversations of all players in games of consecutive seeds."""

    rules: Rules
    first_seed: int
    games: int

    def __iter__(self) -> Iterator[Conversation]:
        for seed in range(self.first_seed, self.first_seed + self.games):
            yield from conversations(self.rules, seed=seed)


def conversations(rules: Rules, *, seed: int) -> list[Conversation]:
    """Return the conversation of each player of one game who was asked for anything, by seat."""
    game = Game(rules, seed=seed)
    told = {player: _Told(introduction(game.view(player))) for player in game.roles}
    player: Player = Uniform()
    while game.requests:
        game.answer(
            {
                request.player: told[request.player].answer(request, game, player)
                for request in game.requests
            }
        )
    return [
        Conversation(messages=tuple(each.messages)) for each in told.values() if each.has_spoken
    ]


class _Told:
    """One player's conversation, as its agent would have it."""

    def __init__(self, system: str) -> None:
        self.messages = [ChatMessage(role=ChatRole.SYSTEM, text=system)]
        self._transcript = Transcript()

    @property
    def has_spoken(self) -> bool:
        return len(self.messages) > 1

    def answer(self, request: Request, game: Game, player: Player) -> Answer:
        view = game.view(request.player)
        answer = player.decide(request, view, draws(game, request))
        self.messages += [
            ChatMessage(role=ChatRole.USER, text=self._transcript.message(view, request)),
            ChatMessage(role=ChatRole.ASSISTANT, text=write(answer)),
        ]
        return answer

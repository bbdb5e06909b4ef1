"""The game as a workflow: one AgentScope agent for each player that a model plays.

The engine asks, the agents answer: those who are asked at once answer concurrently. An agent is
told everything that its player saw since its last turn and sees nothing of others' replies but what
the game makes public of them, so reasoning stays private.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from agentscope.agent import Agent, InjectionConfig, ReActConfig
from agentscope.event import ReplyFinishedReason
from agentscope.message import UserMsg
from agentscope.tool import Toolkit

from astuner_envs.werewolves.engine import Answer, Game, Request
from astuner_envs.werewolves.players import PLAYERS, Player, draws
from astuner_envs.werewolves.rules import Rules
from astuner_envs.werewolves.tasks import MODEL, Table
from astuner_envs.werewolves.words import Transcript, introduction, read
from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult


class WerewolvesWorkflow:
    """Plays the game of a task; each role by models or by the scripted player that it names."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        """Play the game; for the output see :func:`output`. The round limit truncates it."""
        table = Table.of(task)
        game = Game(self.rules, seed=table.seed)
        seats = {player: _seat(player, game, table=table, models=models) for player in game.roles}
        while game.requests:
            requests = game.requests
            answers = await asyncio.gather(
                *(seats[request.player].answer(request, game) for request in requests)
            )
            game.answer(
                {request.player: answer for request, answer in zip(requests, answers, strict=True)}
            )
        return WorkflowResult(
            output={
                "winner": game.winner,
                "roles": dict(game.roles),
                "models": [player for player, seat in seats.items() if isinstance(seat, _Agent)],
                "asked": dict(game.asked),
                "illegal": dict(game.illegal),
                "events": [asdict(event) for event in game.events],
            },
            truncated=game.truncated,
            metrics={"rounds": float(game.round)},
        )


class _Agent:
    """A seat that a model plays."""

    def __init__(self, player: str, game: Game, models: Models) -> None:
        self._transcript = Transcript()
        self._agent = Agent(
            name=player,
            system_prompt=introduction(game.view(player)),
            model=models.for_role(player, role=game.roles[player]),
            toolkit=Toolkit(),
            # The injected state holds the time of day, which no two runs share.
            injection_config=InjectionConfig(inject_runtime_state=False),
            react_config=ReActConfig(max_iters=1),
        )

    async def answer(self, request: Request, game: Game) -> Answer:
        """Put the request into words, and read the reply."""
        message = self._transcript.message(game.view(request.player), request)
        reply = await self._agent.reply(UserMsg(name="user", content=message))
        if reply.finished_reason is ReplyFinishedReason.EXCEED_MAX_ITERS:
            # It called a tool, and there is none. AgentScope has asked once more, for a summary,
            # and may have spoken itself: that is no answer of the player's.
            return None
        return read(request, reply.get_text_content() or "")


class _Script:
    """A seat that a scripted player plays."""

    def __init__(self, player: Player) -> None:
        self._player = player

    async def answer(self, request: Request, game: Game) -> Answer:
        """Decide by what the seat knows."""
        return self._player.decide(request, game.view(request.player), draws(game, request))


def _seat(player: str, game: Game, *, table: Table, models: Models) -> _Agent | _Script:
    name = table.player(game.roles[player])
    return _Agent(player, game, models) if name == MODEL else _Script(PLAYERS[name]())

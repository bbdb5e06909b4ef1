"""The judge: 1 for all who win, -1 for all who lose, less a little for each illegal reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from astuner_envs.werewolves.rules import Role, Side
from astuner_gym.errors import JudgeError
from astuner_gym.judge import Score
from astuner_gym.task import JsonValue, Task
from astuner_gym.workflow import WorkflowResult


class WerewolvesJudge:
    """Rewards each side's players alike, the dead ones too.

    A game that the round limit cut short is worth 0 to all and counts in no win rate.
    """

    def __init__(self, *, illegal_reply_penalty: float, side: Side) -> None:
        """Make the judge; success is that the side with models has won, of both ``side``."""
        self._penalty = illegal_reply_penalty
        self._side = side

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Return the rewards of the players that models play.

        Its metrics are ``win/<role>``, for the roles that models played, and ``illegal``, the share
        of their replies that the rules did not allow or that could not be read.
        """
        if result.output is None:
            # A limit on calls or on context cut it short.
            return Score(rewards={"*": 0.0}, success=False, metrics={"unfinished": 1.0})
        outcome = _mapping(result.output, "the game's result")
        roles = {
            player: Role(str(role)) for player, role in _mapping(outcome["roles"], "roles").items()
        }
        illegal = _mapping(outcome["illegal"], "illegal")
        asked = _mapping(outcome["asked"], "asked")
        models = _names(outcome["models"])
        winner = Side(str(outcome["winner"])) if outcome["winner"] is not None else None
        rewards = {}
        metrics = {"unfinished": float(winner is None)}
        for player in models:
            won = roles[player].side is winner
            rewards[player] = 0.0 if winner is None else 1.0 if won else -1.0
            rewards[player] -= self._penalty * _count(illegal, player)
            if winner is not None:
                metrics[f"win/{roles[player]}"] = float(won)
        replies = sum(_count(asked, player) for player in models)
        if replies:
            metrics["illegal"] = sum(_count(illegal, player) for player in models) / replies
        sides = {roles[player].side for player in models}
        measured = sides.pop() if len(sides) == 1 else self._side
        return Score(rewards={**rewards, "*": 0.0}, success=winner is measured, metrics=metrics)


def _mapping(value: JsonValue, what: str) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping):
        raise JudgeError(f"{what} must be an object, as WerewolvesWorkflow returns it, got {value}")
    return value


def _names(value: JsonValue) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise JudgeError(f"'models' must be a list of players, got {value!r}")
    return [str(name) for name in value]


def _count(counts: Mapping[str, JsonValue], player: str) -> int:
    count = counts.get(player, 0)
    return count if isinstance(count, int) else 0

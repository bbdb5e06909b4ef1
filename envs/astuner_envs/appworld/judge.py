"""The judge: by the engine's own checks, all or nothing or in part."""

from __future__ import annotations

from enum import StrEnum

from astuner_envs.appworld.outcome import Outcome
from astuner_gym.judge import Score
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult


class Reward(StrEnum):
    """What an episode is worth."""

    SUCCESS = "success"
    """1 if every check holds, else 0."""
    DENSE = "dense"
    """``max(0, required passed / required - no-op failed / no-op)``."""


class AppWorldJudge:
    """Reads the checks that the evaluator ran."""

    def __init__(self, *, reward: Reward, forfeit: bool) -> None:
        """Pay this reward, and none where code was flagged if ``forfeit``."""
        self._reward = reward
        self._forfeit = forfeit

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Return the reward; an episode without an evaluated state is worth 0.

        ``judge/dense``, ``judge/flagged`` and ``judge/evaluated`` are measured beside it.
        """
        outcome = Outcome.from_json(result.output)
        checks = None if outcome is None else outcome.checks
        flagged = outcome is not None and bool(outcome.flags)
        forfeited = flagged and self._forfeit
        success = checks is not None and checks.success and not forfeited
        dense = 0.0 if checks is None or forfeited else checks.dense
        return Score(
            rewards={"*": dense if self._reward is Reward.DENSE else float(success)},
            success=success,
            metrics={
                "dense": dense,
                "flagged": float(flagged),
                "evaluated": float(checks is not None),
                "completed": float(outcome is not None and outcome.completed),
            },
        )

"""A plugin module of two agents who speak once each and are rewarded apart."""

from __future__ import annotations

from agentscope.message import UserMsg

from astuner_gym.adapters.verifiers import plugin
from astuner_gym.environment import Environment
from astuner_gym.judge import FunctionJudge, Score
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult


class Duel:
    """Each speaks once, and earns a part of its reward at once."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        for agent in ("Ann", "Bob"):
            await models[agent]([UserMsg("user", "Go.")])
            models.reward(agent, 0.5)
        return WorkflowResult(output=None)


environment = Environment(
    name="duel",
    workflow=Duel(),
    judge=FunctionJudge(lambda task, result: Score(rewards={"Ann": 1.5, "Bob": 2.5}, success=True)),
    train_tasks=RecordTasks("duel", [{}]),
)
DuelTaskset, DuelHarness, DuelEnv = plugin(environment)

__all__ = ["DuelEnv", "DuelHarness", "DuelTaskset"]

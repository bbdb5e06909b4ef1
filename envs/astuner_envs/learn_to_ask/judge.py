"""The judge: decision, content and format of a reply, and their fusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from astuner_envs.learn_to_ask.content import Fit, best_fit, count_questions
from astuner_envs.learn_to_ask.records import Decision, Row
from astuner_envs.learn_to_ask.reply import Reply
from astuner_envs.learn_to_ask.reward import (
    WRONG_DECISION,
    Fusion,
    Marks,
    asking_marks,
    format_mark,
)
from astuner_gym.judge import Score
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult


class QuestionGrader(Protocol):
    """Marks the questions of a reply that was right to ask."""

    async def grade(self, reply: Reply, row: Row) -> Marks:
        """Return the marks.

        Raises:
            JudgeError: No marks can be had; the episode is dropped and not scored.
        """
        ...


@dataclass(frozen=True, slots=True)
class RuleGrader:
    """Marks by rule: see ``content.py``."""

    scale: Mapping[Fit, float]
    """What each fit is worth."""

    async def grade(self, reply: Reply, row: Row) -> Marks:
        """Return the marks of the question that fits best, and of the number of questions."""
        questions = reply.questions
        return asking_marks(
            content=self.scale[best_fit(questions, row.info)],
            form=format_mark(count_questions(questions)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnToAskJudge:
    """Compares a reply with what the person did and said next."""

    grader: QuestionGrader
    fusion: Fusion

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Return the reward; success is a right decision with full marks.

        Metrics: ``decision`` over all rows, ``stop_accuracy`` over those to stop at,
        ``continue_accuracy``, ``content`` and ``format`` over those to go on from.

        Raises:
            JudgeError: The grader gave no marks.
            TaskDataError: The task is no row.
        """
        row = Row.of(task)
        reply = Reply(result.output if isinstance(result.output, str) else "")
        marks = await self._marks(reply, row)
        if row.decision is Decision.STOP:
            metrics = {"stop_accuracy": marks.decision}
        else:
            metrics = {
                "continue_accuracy": marks.decision,
                "content": marks.content,
                "format": marks.format,
            }
        return Score(
            rewards={"*": self.fusion(marks)},
            success=marks == Marks(decision=1.0, content=1.0, format=1.0),
            metrics={"decision": marks.decision, **metrics},
        )

    async def _marks(self, reply: Reply, row: Row) -> Marks:
        if reply.decision is not row.decision:
            return WRONG_DECISION
        if row.decision is Decision.STOP:
            return Marks(decision=1.0, content=1.0, format=float(reply.is_bare_stop))
        return await self.grader.grade(reply, row)

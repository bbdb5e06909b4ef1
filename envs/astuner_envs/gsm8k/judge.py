"""The judge: 1 for the right number, 0 for anything else."""

from __future__ import annotations

from astuner_envs.gsm8k.answer import extract_answer, is_correct
from astuner_gym.judge import Score
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult


class Gsm8kJudge:
    """Compares the reply's number with the one after ``####`` in the record's answer."""

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Return reward 1.0 or 0.0; a reply without an answer is worth 0 and counted."""
        reply = result.output if isinstance(result.output, str) else ""
        correct = is_correct(reply, task.text("answer"))
        return Score(
            rewards={"*": float(correct)},
            success=correct,
            metrics={"answered": float(extract_answer(reply) is not None)},
        )

"""A language model as a judge of single answers.

What is judged is untrusted: it is shown between marks that it cannot contain, and an answer that
aims at the judge (:mod:`astuner_gym.judging.attacks`) is worth nothing without being shown at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from astuner_gym.judge import Score
from astuner_gym.judging.answers import answer_text, enclosed
from astuner_gym.judging.attacks import Attack
from astuner_gym.judging.brief import BEST, SCORE_FORM, Brief
from astuner_gym.judging.model import JudgeModel
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult

ATTACK_FIGURE: Final = "attack"
"""Figure that says whether an answer aims at the judge."""
_SCORE: Final = re.compile(
    r"\W*score[^\w-]*(?P<score>\d+(?:\.\d+)?)\s*(?:/\s*10)?\W*", re.IGNORECASE
)


class LlmJudge:
    """Gives every agent a reward from 0 to 1, a tenth of the model's score.

    Figures: ``attack`` and ``attack/<kind>``, 1 where the answer aims at the judge and else 0.

    Args:
        model: Whom to ask.
        brief: What to look for.
        success_at: Least reward of an episode that counts as solved.
    """

    def __init__(self, model: JudgeModel, *, brief: Brief, success_at: float = 0.5) -> None:
        self._model = model
        self._brief = brief
        self._success_at = success_at

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Ask for a score of the output.

        Raises:
            JudgeError: No usable answer is to be had.
            TaskDataError: The task lacks a field that is to be shown.
        """
        answer = answer_text(result.output)
        attacks = self._brief.attacks_in(task, answer)
        if self._brief.is_worthless(attacks):
            reward = 0.0
        else:
            material, rule = enclosed({**self._brief.material(task), "answer": answer})
            reward = await self._model.ask(
                [
                    {
                        "role": "system",
                        "content": f"{self._brief.instructions(SCORE_FORM)}\n\n{rule}",
                    },
                    {"role": "user", "content": material},
                ],
                parse=parse_score,
            )
        return Score(
            rewards={"*": reward}, success=reward >= self._success_at, metrics=figures_of(attacks)
        )


def figures_of(attacks: Sequence[Attack]) -> dict[str, float]:
    """Return the figures ``attack`` and ``attack/<kind>`` of one answer, each 1 or 0."""
    figures = {ATTACK_FIGURE: float(bool(attacks))}
    return figures | {f"{ATTACK_FIGURE}/{kind}": float(kind in attacks) for kind in Attack}


def last_line(text: str) -> str:
    """Return the last line that is not empty; ``""`` if there is none."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()


def parse_score(text: str) -> float:
    """Return the score in the last line of a judge's answer, from 0 to 1.

    Raises:
        ValueError: There is none, or it is out of range.
    """
    match = _SCORE.fullmatch(last_line(text))
    if match is None or not 0 <= float(match["score"]) <= BEST:
        raise ValueError(f"the last line must be 'Score: N' with N from 0 to {BEST}")
    return float(match["score"]) / BEST

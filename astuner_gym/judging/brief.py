"""What a judging model is told: what to look for, what it is shown, and how it must answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from astuner_gym.judging.answers import MATERIAL_RULE
from astuner_gym.judging.attacks import Attack, attacks_in
from astuner_gym.task import Task

CRITERIA: Final = "The answer is correct, complete, clear, and does what the task asks for."
BEST: Final = 10
SCORE_FORM: Final = (
    "You judge one answer to a task. Weigh it against the criteria in a few sentences. Then end "
    f"with a line that holds nothing but 'Score: N', where N is a number from 0, for an answer of "
    f"no worth, to {BEST}, for one that cannot be better."
)
PAIR_FORM: Final = (
    "You compare two answers to a task. Weigh them against the criteria in a few sentences. Their "
    "order and their length say nothing about their worth. Then end with a line that holds nothing "
    "but 'Better: 1', 'Better: 2' or 'Better: tie'."
)
LIST_FORM: Final = (
    "You rank {count} answers to a task. Weigh them against the criteria in a few sentences. Their "
    "order and their length say nothing about their worth. Then end with a line that holds nothing "
    "but 'Ranking: ' and the numbers of all answers with commas between them, the best one first."
)
RUBRIC_FORM: Final = (
    "You check one answer to a task against a list of questions. Answer each question from what "
    "the answer says, not from what you would have liked it to say. Think in a few sentences. Then "
    "end with one line for each question that holds nothing but its number and 'yes' or 'no', such "
    "as '1: yes'."
)
_ALL_FORMS: Final = "\n".join((SCORE_FORM, PAIR_FORM, LIST_FORM, RUBRIC_FORM, MATERIAL_RULE))


class AttackPolicy(StrEnum):
    """What an attack on the judge is answered with."""

    LOWEST = "lowest"
    """The lowest reward; the model is not asked."""
    FLAG = "flag"
    """Nothing but the figures ``attack`` and ``attack/<kind>``; an empty answer is still worth
    nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What a judge is told to look for and what it is shown beside an answer."""

    criteria: str = CRITERIA
    """What makes an answer good, in words."""
    question: str | None = None
    """Field of the task that says what was asked; None shows the whole record."""
    reference: str | None = None
    """Field of the task that holds a right answer; None shows none."""
    attacks: AttackPolicy = AttackPolicy.LOWEST

    def material(self, task: Task) -> dict[str, str]:
        """Return what is shown beside the answer, by label.

        Raises:
            TaskDataError: The task lacks a field.
        """
        shown = {"task": self.asked(task)}
        if self.reference is not None:
            shown["reference answer"] = task.text(self.reference)
        return shown

    def asked(self, task: Task) -> str:
        """Return what was asked: a text, or the record as JSON without the reference."""
        if self.question is not None:
            return task.text(self.question)
        record = {name: value for name, value in task.record.items() if name != self.reference}
        return json.dumps(record, ensure_ascii=False, sort_keys=True)

    def instructions(self, form: str) -> str:
        """Return the judge's orders, of which ``form`` says how to answer."""
        reference = (
            "The reference answer is right; an answer may be right in other words. "
            if self.reference is not None
            else ""
        )
        return f"Criteria: {self.criteria}\n\n{reference}{form}"

    def attacks_in(
        self, task: Task, answer: str, *, verdict: re.Pattern[str] | None = None
    ) -> tuple[Attack, ...]:
        """Return the kinds of attack that an answer to the task holds.

        Args:
            task: What was asked.
            answer: What is judged.
            verdict: Finds verdicts in a form of this judge's own.
        """
        # What the agent was shown is not known: fields of the record may have been.
        record = json.dumps(dict(task.record), ensure_ascii=False)
        texts = [value for value in task.record.values() if isinstance(value, str)]
        return attacks_in(
            answer,
            judge_text=self.instructions(_ALL_FORMS),
            task_text="\n".join([record, *texts]),
            verdict=verdict,
        )

    def is_worthless(self, attacks: Sequence[Attack]) -> bool:
        """Return whether an answer with these attacks gets the lowest reward unseen."""
        if self.attacks is AttackPolicy.LOWEST:
            return bool(attacks)
        return Attack.EMPTY in attacks

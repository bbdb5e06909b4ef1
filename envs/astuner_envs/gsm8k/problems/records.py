"""What a generated problem is: its text, its exact steps, and the parts that it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One calculation of a worked solution."""

    expression: str
    """Two literals and an operator, spaced: `12 * 3`."""
    result: int
    """The exact value of `expression`."""
    sources: tuple[int | None, int | None]
    """For each operand the index of the earlier step that it came from, or None for the text."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The choices behind a problem; the split rule of the package is stated over them."""

    structure: tuple[str, ...]
    """The kind of each clause, in order."""
    item: str
    """What the problem counts, in the plural; empty where it counts dollars, miles or people."""
    wording: tuple[int, ...]
    """Which paraphrase each clause uses, in order."""
    operands: tuple[int, ...]
    """The numbers of the clauses, in order, without the distractor's."""
    distractor: int | None
    """The number of the irrelevant sentence, or None where there is no such sentence."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem with its worked solution."""

    question: str
    steps: tuple[Step, ...]
    answer: int
    """The result of the last step."""
    template: str
    """The name of the scenario."""
    parts: Parts

    @property
    def solution(self) -> str:
        """The worked solution as GSM8K writes it, for example `12 * 3 = <<12*3=36>>36`."""
        lines = [
            f"{step.expression} = <<{step.expression.replace(' ', '')}={step.result}>>{step.result}"
            for step in self.steps
        ]
        return "\n".join([*lines, f"#### {self.answer}"])

    @property
    def record(self) -> Mapping[str, str]:
        """The problem as a line of the GSM8K files: `question` and `answer`."""
        return {"question": self.question, "answer": self.solution}

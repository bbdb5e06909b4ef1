"""Penalties: judges by rule that take something off for the form of an answer.

Each gives every agent a reward from -1 to 0, so it goes into a sum with a positive weight. Whether
the episode is solved is not theirs to say: to them every one is.
"""

from __future__ import annotations

import re
from typing import Final

from astuner_gym.errors import SettingError
from astuner_gym.judge import Score
from astuner_gym.judging.answers import answer_text
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult

# Scripts without spaces between words count by character.
_WORDS: Final = re.compile(r"[\u3040-\ud7af]|[^\W\u3040-\ud7af]+|[^\w\s]")


class RepetitionPenalty:
    """Minus the share of an answer's runs of ``words`` words that stood in it before.

    With ``words=1``, ``"no no no yes"`` has 4 runs and 2 of them are repeated: -0.5.
    """

    def __init__(self, *, words: int = 3) -> None:
        if words < 1:
            raise SettingError(f"words must be >= 1, got {words}; set words=3")
        self._words = words

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Return the penalty; a text without such runs has none."""
        return _penalty(repeated_share(answer_text(result.output), words=self._words))


def repeated_share(text: str, *, words: int) -> float:
    """Return which share of the runs of so many words repeats an earlier one, in [0, 1)."""
    found = _WORDS.findall(text.casefold())
    runs = [tuple(found[start : start + words]) for start in range(len(found) - words + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


class LengthPenalty:
    """Grows from 0 at ``limit`` characters to -1 at twice as many, and not beyond."""

    def __init__(self, *, limit: int) -> None:
        if limit < 1:
            raise SettingError(f"limit must be >= 1, got {limit}; set limit=1000")
        self._limit = limit

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Return the penalty."""
        excess = len(answer_text(result.output)) - self._limit
        return _penalty(min(1.0, max(0, excess) / self._limit))


class FormatPenalty:
    """-1 for an answer that does not match a pattern from its first character to its last.

    Args:
        pattern: A regular expression, in which a dot stands for line ends too. Nested repetitions
            such as ``(a+)+`` take forever on some answers: write patterns without.
    """

    def __init__(self, *, pattern: str) -> None:
        try:
            self._pattern = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise SettingError(
                f"pattern must be a regular expression, got {pattern!r}: {error}; mend it"
            ) from error

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Return the penalty."""
        matches = self._pattern.fullmatch(answer_text(result.output)) is not None
        return _penalty(float(not matches))


def _penalty(amount: float) -> Score:
    return Score(rewards={"*": -amount if amount else 0.0}, success=True)

"""Labelled examples, and which of them can teach.

A line of the file is scored or ranked, all lines in the same way::

    {"question": "What is 2+2?", "answer": "4, since 1+1 is 2.", "score": 1}
    {"question": "What is 2+2?", "ranked": ["4, since 1+1 is 2.", "4", "5"]}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Final

from astuner_gym.errors import TaskDataError
from astuner_gym.judge import is_finite
from astuner_gym.task import JsonlTasks, JsonValue, Task

FEWEST_SCORED: Final = 24
FEWEST_RANKED: Final = 12
FEWEST_OF_OTHER_LABELS: Final = 6
"""Scored answers that must differ from the most frequent score."""
MOST_CONTRADICTORY: Final = 0.1
"""Share of the examples that may contradict others; they are left out."""


class LabelKind(StrEnum):
    """What labels say, and so how agreement with them is measured."""

    BINARY = "binary"
    """Two scores, good and bad: accuracy and Cohen's kappa."""
    SCORED = "scored"
    """Scores of more values: pairs ordered right and Kendall's tau."""
    RANKED = "ranked"
    """Answers to one question, best first: the same within each list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An answer and what people say of it."""

    question: str
    answer: str
    label: float
    """Its score, of BINARY 1 or 0; of RANKED minus its place in the list."""
    unit: int
    """Number of the line that it comes from: what is drawn and split as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Examples that can teach."""

    kind: LabelKind
    examples: tuple[Example, ...]
    left_out: int = 0
    """Examples that contradict others."""
    repeated: int = 0
    """Examples that say what an earlier one says; they are left out too."""

    def of_units(self, units: Sequence[int]) -> tuple[Example, ...]:
        """Return the examples of some units, in their order."""
        chosen = set(units)
        return tuple(each for each in self.examples if each.unit in chosen)


def read_examples(path: Path) -> Examples:
    """Return the examples of a JSONL file.

    Raises:
        TaskDataError: The file is no such file, or its labels cannot teach: there are too few, all
            are alike, or too many contradict each other.
    """
    lines = JsonlTasks(path, required=("question",))
    tasks = [lines[index] for index in range(len(lines))]
    is_ranked = "ranked" in tasks[0].record
    read = _ranked if is_ranked else _scored
    examples = [each for unit, task in enumerate(tasks) for each in read(task, unit)]
    kept = _without_contradictions(examples, is_ranked=is_ranked)
    left_out = len(examples) - len(kept)
    if left_out > MOST_CONTRADICTORY * len(examples):
        raise TaskDataError(
            f"{path}: labels must not contradict each other, {left_out} of {len(examples)} do: "
            f"{_contradiction(examples, kept)}; decide which label is right"
        )
    # What was learnt from must not be reported on.
    single = _without_repetitions(kept)
    repeated = len(kept) - len(single)
    kept = single
    kind = LabelKind.RANKED if is_ranked else LabelKind.SCORED
    labels = sorted({each.label for each in kept})
    units = len({each.unit for each in kept})
    fewest = FEWEST_RANKED if is_ranked else FEWEST_SCORED
    if units < fewest:
        raise TaskDataError(
            f"{path}: at least {fewest} lines of their own are needed, to learn from some and "
            f"measure on others, got {units}; label more answers"
        )
    if len(labels) == 1:
        raise TaskDataError(
            f"{path}: labels must differ, all {len(kept)} are {labels[0]:g}; add answers of "
            "another worth"
        )
    if not is_ranked:
        most, count = Counter(each.label for each in kept).most_common(1)[0]
        if len(kept) - count < FEWEST_OF_OTHER_LABELS:
            raise TaskDataError(
                f"{path}: at least {FEWEST_OF_OTHER_LABELS} answers must have another score than "
                f"the most frequent one, {most:g}, got {len(kept) - count} of {len(kept)}; label "
                "more of them"
            )
    if not is_ranked and len(labels) == 2:
        kind = LabelKind.BINARY
        kept = [
            Example(
                question=each.question,
                answer=each.answer,
                label=float(each.label == labels[1]),
                unit=each.unit,
            )
            for each in kept
        ]
    return Examples(kind=kind, examples=tuple(kept), left_out=left_out, repeated=repeated)


def split(examples: Examples, *, shares: Sequence[float], seed: int) -> list[tuple[Example, ...]]:
    """Return the examples in parts of about these shares; a question is in one part only.

    Where chance would leave a part with one score alone, scores are spread over the parts. Where
    there are fewer than ten questions for a part, lines are told apart, not questions.

    Args:
        examples: What to split.
        shares: Of the parts; they add up to 1.
        seed: Names the order in which questions are dealt out.
    """
    units_of: defaultdict[str, list[int]] = defaultdict(list)
    for each in examples.examples:
        if each.unit not in units_of[each.question]:
            units_of[each.question].append(each.unit)
    blocks = list(units_of.values())
    if len(blocks) < 10 * len(shares):
        blocks = [[unit] for units in blocks for unit in units]
    Random(f"rubric-split/{seed}").shuffle(blocks)
    parts = _dealt(blocks, shares)
    if examples.kind is LabelKind.RANKED or all(map(_differ, map(examples.of_units, parts))):
        return [examples.of_units(part) for part in parts]
    label = {each.unit: each.label for each in examples.examples}
    blocks.sort(key=lambda block: fmean(label[unit] for unit in block))
    spread: list[list[int]] = [[] for _ in shares]
    dealt = 0
    for block in blocks:
        dealt += len(block)
        # To the part that lacks the most of its share of what has been dealt out.
        lacking = [share * dealt - len(part) for share, part in zip(shares, spread, strict=True)]
        spread[lacking.index(max(lacking))] += block
    return [examples.of_units(part) for part in spread]


def _differ(examples: Sequence[Example]) -> bool:
    return len({each.label for each in examples}) > 1


def _dealt(blocks: Sequence[Sequence[int]], shares: Sequence[float]) -> list[list[int]]:
    total = sum(map(len, blocks))
    parts: list[list[int]] = [[] for _ in shares]
    for block in blocks:
        # To the part that lacks the most of its share.
        lacking = [share * total - len(part) for share, part in zip(shares, parts, strict=True)]
        parts[lacking.index(max(lacking))] += block
    return parts


def _scored(task: Task, unit: int) -> list[Example]:
    score = task.record.get("score")
    if isinstance(score, bool):
        score = int(score)
    if not isinstance(score, (int, float)) or not is_finite(score):
        raise TaskDataError(
            f"{task.id}: 'score' must be a number in every line, or every line ranked, got "
            f"{score!r}"
        )
    return [
        Example(
            question=task.text("question"),
            answer=task.text("answer"),
            label=float(score),
            unit=unit,
        )
    ]


def _ranked(task: Task, unit: int) -> list[Example]:
    answers: JsonValue = task.record.get("ranked")
    if (
        isinstance(answers, (str, Mapping))
        or not isinstance(answers, Sequence)
        or len(answers) < 2
        or not all(isinstance(each, str) for each in answers)
    ):
        raise TaskDataError(
            f"{task.id}: 'ranked' must be a list of at least two answers, the best first, in every "
            f"line, or every line scored, got {answers!r}"
        )
    return [
        Example(question=task.text("question"), answer=str(answer), label=-float(place), unit=unit)
        for place, answer in enumerate(answers)
    ]


def _without_repetitions(examples: Sequence[Example]) -> list[Example]:
    lines: defaultdict[int, list[Example]] = defaultdict(list)
    for each in examples:
        lines[each.unit].append(each)
    first = {
        tuple((each.question, each.answer, each.label) for each in line): unit
        for unit, line in reversed(lines.items())
    }
    kept = set(first.values())
    return [each for each in examples if each.unit in kept]


def _without_contradictions(examples: Sequence[Example], *, is_ranked: bool) -> list[Example]:
    if not is_ranked:
        labels: defaultdict[tuple[str, str], set[float]] = defaultdict(set)
        for each in examples:
            labels[each.question, each.answer].add(each.label)
        return [each for each in examples if len(labels[each.question, each.answer]) == 1]
    lists: defaultdict[int, list[Example]] = defaultdict(list)
    for each in examples:
        lists[each.unit].append(each)
    # An answer before another one, and in a list of the same question behind it.
    orders = {
        (first.question, first.answer, second.answer)
        for ranked in lists.values()
        for first, second in combinations(ranked, 2)
    }
    contradictory = {
        unit
        for unit, ranked in lists.items()
        if any(
            (first.question, second.answer, first.answer) in orders
            for first, second in combinations(ranked, 2)
        )
    }
    return [each for each in examples if each.unit not in contradictory]


def _contradiction(examples: Sequence[Example], kept: Sequence[Example]) -> str:
    first = next(each for each in examples if each not in kept)
    return f"the answer {first.answer[:60]!r} to {first.question[:60]!r} is one of them"

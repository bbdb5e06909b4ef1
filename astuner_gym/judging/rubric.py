"""A rubric as a judge: yes-or-no criteria with weights, in a YAML file that people read and edit.

::

    criteria:
      - name: names_the_unit
        question: Does the answer name the unit of its result?
        weight: 0.6
      - name: guesses
        question: Does the answer say that it is a guess?
        weight: -0.4
    success_from: 0.5

A met criterion earns its weight, and one with a negative weight earns it when it is not met. The
reward is the share that was earned of all that could be, from 0 to 1: an answer with a unit that
does not guess earns 1, one with neither 0.4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from astuner_gym.errors import SettingError
from astuner_gym.judge import Score
from astuner_gym.judging.answers import answer_text, enclosed
from astuner_gym.judging.brief import RUBRIC_FORM, Brief
from astuner_gym.judging.llm import ATTACK_FIGURE, figures_of
from astuner_gym.judging.model import JudgeModel
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult
from astuner_gym.yaml_text import yaml_text

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_VERDICT: Final = re.compile(r"\W*(?P<number>\d+)\W+(?P<verdict>yes|no)\W*", re.IGNORECASE)
_VERDICT_SAID: Final = re.compile(
    r"^[^\w\n]*\d+\s*:\s*(?:yes|no)\b[^\w\n]*$", re.IGNORECASE | re.MULTILINE
)
"""A line of an answer that the judge could take for its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One thing to look for in an answer."""

    name: str
    """Names its figure: letters, digits and ``_.-``."""
    question: str
    """Answered by yes or no."""
    weight: float = 1.0
    """Not 0; below 0 for a fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """Criteria, and what they are worth."""

    criteria: tuple[Criterion, ...]
    success_from: float = 0.5
    """Least reward of an answer that counts as a success."""

    def __post_init__(self) -> None:
        if not self.criteria:
            raise SettingError("a rubric must have at least one criterion, got none; add one")
        names = [each.name for each in self.criteria]
        for each in self.criteria:
            is_taken = names.count(each.name) > 1 or each.name == ATTACK_FIGURE
            if is_taken or not _NAME.fullmatch(each.name):
                raise SettingError(
                    "a criterion's name must be its own, of letters, digits and '_.-', and other "
                    f"than {ATTACK_FIGURE!r}, got {each.name!r}; rename it"
                )
            if not each.question.strip():
                raise SettingError(f"criterion {each.name!r} must ask a question, got ''; write it")
            if each.weight == 0 or not math.isfinite(each.weight):
                raise SettingError(
                    f"criterion {each.name!r} must have a finite weight other than 0, got "
                    f"{each.weight}; change or remove it"
                )
        if not 0 <= self.success_from <= 1:
            raise SettingError(
                f"success_from must be between 0 and 1, got {self.success_from}; set it to 0.5"
            )

    def reward(self, met: Mapping[str, bool]) -> float:
        """Return the share of the weights that an answer earns, in [0, 1].

        Args:
            met: By the name of the criterion.
        """
        earned = sum(
            abs(each.weight) for each in self.criteria if met[each.name] is (each.weight > 0)
        )
        return earned / sum(abs(each.weight) for each in self.criteria)


def read_rubric(path: Path) -> Rubric:
    """Return the rubric that a YAML file holds; entries that are not its own are left alone.

    Raises:
        SettingError: The file is absent or holds no rubric; the message names it and the entry.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f"{path}: a rubric must be a readable YAML file: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("criteria"), list):
        raise SettingError(
            f"{path}: a rubric must have a list 'criteria', got {type(content).__name__}; see "
            "astuner_gym/judging/rubric.py for an example"
        )
    try:
        return Rubric(
            criteria=tuple(map(_criterion, content["criteria"])),
            success_from=_number("success_from", content.get("success_from", 0.5)),
        )
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error


def rubric_yaml(rubric: Rubric, *, notes: Mapping[str, object] | None = None) -> str:
    """Return the file that :func:`read_rubric` reads.

    Args:
        rubric: What to write.
        notes: Further entries, for people; in YAML's own types.
    """
    content = {
        "criteria": [
            {"name": each.name, "question": each.question, "weight": each.weight}
            for each in rubric.criteria
        ],
        "success_from": rubric.success_from,
        **(notes or {}),
    }
    return yaml_text(content)


class RubricJudge:
    """Gives every agent a reward from 0 to 1 by a rubric.

    Figures: 1 or 0 for each criterion by its name, and those of attacks on the judge.

    Args:
        model: Whom to ask whether an answer meets the criteria.
        rubric: The criteria.
        brief: What to show beside the answer; its own criteria are not used.
    """

    def __init__(self, model: JudgeModel, *, rubric: Rubric, brief: Brief) -> None:
        self._model = model
        self._rubric = rubric
        self._brief = replace(brief, criteria=numbered(rubric.criteria))

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Check the output against the criteria.

        Raises:
            JudgeError: No usable answer is to be had.
            TaskDataError: The task lacks a field that is to be shown.
        """
        answer = answer_text(result.output)
        attacks = self._brief.attacks_in(task, answer, verdict=_VERDICT_SAID)
        if self._brief.is_worthless(attacks):
            return Score(rewards={"*": 0.0}, success=False, metrics=figures_of(attacks))
        met = await check_criteria(
            self._model,
            self._rubric.criteria,
            material={**self._brief.material(task), "answer": answer},
        )
        reward = self._rubric.reward(met)
        return Score(
            rewards={"*": reward},
            success=reward >= self._rubric.success_from,
            metrics=figures_of(attacks) | {name: float(is_met) for name, is_met in met.items()},
        )


async def check_criteria(
    model: JudgeModel, criteria: Sequence[Criterion], *, material: Mapping[str, str]
) -> dict[str, bool]:
    """Return which criteria an answer meets, by name, as the model sees it.

    Args:
        model: Whom to ask; once, about all criteria.
        criteria: What to look for.
        material: What is shown, by label: the answer, and what belongs to it.

    Raises:
        JudgeError: No usable answer is to be had.
    """
    shown, rule = enclosed(material)
    verdicts = await model.ask(
        [
            {"role": "system", "content": f"{RUBRIC_FORM}\n\n{numbered(criteria)}\n\n{rule}"},
            {"role": "user", "content": shown},
        ],
        parse=lambda text: parse_verdicts(text, count=len(criteria)),
    )
    return {each.name: verdict for each, verdict in zip(criteria, verdicts, strict=True)}


def numbered(criteria: Sequence[Criterion]) -> str:
    """Return the questions, one a line, numbered from 1."""
    lines = (f"{number}. {each.question}" for number, each in enumerate(criteria, start=1))
    return "\n".join(lines)


def parse_verdicts(text: str, *, count: int) -> list[bool]:
    """Return the verdict on each question, in their order.

    Raises:
        ValueError: A question has no verdict or two different ones, or there is one of no question.
    """
    found: dict[int, bool] = {}
    for line in text.splitlines():
        if match := _VERDICT.fullmatch(line):
            number, verdict = int(match["number"]), match["verdict"].lower() == "yes"
            if found.setdefault(number, verdict) is not verdict:
                raise ValueError(f"question {number} must have one verdict, it has two")
    if sorted(found) != list(range(1, count + 1)):
        raise ValueError(
            f"there must be one line 'N: yes' or 'N: no' for each N from 1 to {count}, "
            f"got lines for {sorted(found)}"
        )
    return [found[number] for number in range(1, count + 1)]


def _criterion(entry: object) -> Criterion:
    if not isinstance(entry, dict):
        raise SettingError(
            f"a criterion must have 'name', 'question' and 'weight', got {entry!r}; write them"
        )
    name, question = entry.get("name"), entry.get("question")
    if not isinstance(name, str) or not isinstance(question, str):
        raise SettingError(
            f"a criterion must have 'name' and 'question', both text, got {entry!r}; write them"
        )
    return Criterion(
        name=name, question=question, weight=_number(f"weight of {name!r}", entry.get("weight", 1))
    )


def _number(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SettingError(f"{what} must be a number, got {value!r}; write one")
    return float(value)

"""A language model marks content and format of a question, in the published output format.

What the person and the policy wrote is shown between marks that it cannot contain, and is never an
instruction. The verdict is read strictly: each score once, and one of the scale's values. A verdict
that stays unusable drops the episode, with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from astuner_envs.learn_to_ask.content import Fit
from astuner_envs.learn_to_ask.records import Row, Speaker
from astuner_envs.learn_to_ask.reply import Reply
from astuner_envs.learn_to_ask.reward import Marks, asking_marks
from astuner_gym.judging.answers import enclosed
from astuner_gym.judging.model import JudgeModel

FORMATS: Final = {1.0: "it asks one question", 0.5: "it asks two questions", 0.0: "anything else"}
_MEANINGS: Final = {
    Fit.DIRECT: "the person went on to say exactly what it asks for",
    Fit.RELEVANT: "it is about something that the person went on to speak of, highly relevant but "
    "asked otherwise",
    Fit.GENERIC: "it is a generic question that asks for anything at all",
    Fit.OFF: "it asks for something that the person did not go on to say",
}


@dataclass(frozen=True, slots=True)
class LlmGrader:
    """Asks a model about each reply that was right to ask."""

    model: JudgeModel
    scale: Mapping[Fit, float]
    """What each fit is worth."""

    async def grade(self, reply: Reply, row: Row) -> Marks:
        """Return the marks that the model gives.

        Raises:
            JudgeError: It gave none that can be used.
        """
        material, rule = enclosed(
            {
                "dialogue": "\n".join(
                    f"{'person' if message.speaker is Speaker.PERSON else 'clerk'}: {message.text}"
                    for message in row.history
                ),
                "what the person went on to say": row.info,
                "reply": reply.text,
            }
        )
        content, form = await self.model.ask(
            [
                {"role": "system", "content": f"{instructions(self.scale)}\n\n{rule}"},
                {"role": "user", "content": material},
            ],
            parse=lambda answer: parse_verdict(answer, contents={*self.scale.values()}),
        )
        return asking_marks(content=content, form=form)


def instructions(scale: Mapping[Fit, float]) -> str:
    """Return what the model is told, with the values of the scale."""
    by_value: dict[float, list[str]] = {}
    for fit, value in scale.items():
        by_value.setdefault(value, []).append(_MEANINGS[fit])
    contents = "\n".join(f"{value:g}: {'; or '.join(why)}" for value, why in by_value.items())
    formats = "\n".join(f"{value:g}: {why}" for value, why in FORMATS.items())
    return (
        "You mark the reply of a clerk to a person who needs help. You know what the person went "
        "on to say.\n\n"
        f"Content score, by the best of its questions:\n{contents}\n\n"
        f"Format score, choices within a question not counted:\n{formats}\n\n"
        "Answer in this form and no other:\n"
        "<think>your reasons</think>\n"
        "<format_score>number</format_score>\n"
        "<content_score>number</content_score>"
    )


def parse_verdict(answer: str, *, contents: Collection[float]) -> tuple[float, float]:
    """Return content and format score.

    Args:
        answer: The model's, without its thinking.
        contents: Values that a content score may have.

    Raises:
        ValueError: A score is absent, stands there twice, or has another value.
    """
    return (
        _only_score(answer, "content_score", contents),
        _only_score(answer, "format_score", FORMATS),
    )


def _only_score(answer: str, tag: str, values: Collection[float]) -> float:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", answer, re.DOTALL)
    number = found[0].strip() if len(found) == 1 else ""
    if re.fullmatch(r"\d(?:\.\d+)?", number) and float(number) in values:
        return float(number)
    choices = ", ".join(f"{value:g}" for value in sorted(values))
    raise ValueError(f"there must be one <{tag}> with one of the numbers {choices} alone in it")

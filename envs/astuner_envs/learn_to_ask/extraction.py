"""What a person went on to say, as a language model extracts it.

The published rows say in ``info_truth`` what each later turn adds, in short phrases with commas
between them. Offline the environment takes the later turns word for word; this asks a model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from astuner_envs.learn_to_ask.pipeline import rows
from astuner_envs.learn_to_ask.records import Decision, Row, Session, Speaker
from astuner_gym.errors import JudgeError
from astuner_gym.judging.answers import enclosed
from astuner_gym.judging.model import JudgeModel

INSTRUCTIONS = (
    "List what a person tells later in a dialogue and has not told before: one short phrase for "
    "each piece of information, such as 'age: four years'. Answer with a JSON list of texts and "
    "nothing else; with [] if nothing new is told."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """Rows of some sessions, and what could not be made."""

    rows: tuple[Row, ...]
    failures: tuple[tuple[str, str], ...]
    """Id and reason of each row that is left out because the model gave no usable answer."""


async def extract(sessions: Sequence[Session], model: JudgeModel) -> Extraction:
    """Return the rows of sessions with what a model extracts of the later turns.

    A row that goes on and of which nothing is extracted is left out, as in the pipeline.
    """
    wanted = [row for session in sessions for row in rows(session)]
    outcomes = await asyncio.gather(*(_extracted(row, model) for row in wanted))
    return Extraction(
        rows=tuple(each for each in outcomes if isinstance(each, Row)),
        failures=tuple(
            (row.id, str(each))
            for row, each in zip(wanted, outcomes, strict=True)
            if isinstance(each, JudgeError)
        ),
    )


async def _extracted(row: Row, model: JudgeModel) -> Row | JudgeError | None:
    if row.decision is Decision.STOP:
        return row
    told = [message.text for message in row.history if message.speaker is Speaker.PERSON]
    material, rule = enclosed({"told before": "\n".join(told), "told later": row.info})
    try:
        phrases = await model.ask(
            [
                {"role": "system", "content": f"{INSTRUCTIONS}\n\n{rule}"},
                {"role": "user", "content": material},
            ],
            parse=parse_phrases,
        )
    except JudgeError as error:
        return error
    return replace(row, info=", ".join(phrases)) if phrases else None


def parse_phrases(answer: str) -> list[str]:
    """Return the phrases of an answer.

    Raises:
        ValueError: It is no JSON list of texts.
    """
    try:
        phrases = json.loads(answer)
    except (ValueError, RecursionError):
        phrases = None
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise ValueError("the answer must be a JSON list of texts and nothing else")
    return [phrase.strip() for phrase in phrases if phrase.strip()]

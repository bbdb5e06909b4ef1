"""What a reply does: ask, or stop.

A reply that holds ``<stop />`` stops, whatever else it holds; ``<stop/>`` and other spacing are the
same mark. Only a reply that is nothing but the mark, white space aside, is well-formed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from astuner_envs.learn_to_ask.records import Decision

STOP: Final = "<stop />"
MOST_CHOICES: Final = 4
"""A question with more parts between commas than that asks for several things."""
_MARK: Final = re.compile(r"<\s*stop\s*/\s*>", re.IGNORECASE)
_QUESTION_MARKS: Final = re.compile(r"[?？؟]+")
_ASKS: Final = re.compile(
    r"\W*(?:(?:and|but|so|then|well|okay|ok|please)\W+)?"
    r"(?:(?:are|can|could|did|do|does|had|has|have|is|was|were|will|would)|"
    r"(?:\w+\W+){0,2}?(?:how|tell|what|when|where|which|who|whose|why))\b",
    re.IGNORECASE,
)
"""How a sentence begins that asks without a question mark: "Is it on", "Since when is it so"."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as its reader takes it."""

    text: str

    @property
    def decision(self) -> Decision:
        """Whether it asks or stops."""
        return Decision.STOP if _MARK.search(self.text) else Decision.CONTINUE

    @property
    def is_bare_stop(self) -> bool:
        """Whether it is the mark and nothing else."""
        return _MARK.fullmatch(self.text.strip()) is not None

    @property
    def questions(self) -> tuple[str, ...]:
        """Each question, without its mark; a last sentence that asks needs no mark.

        ``How old is it? Where is it?`` has two questions, ``Tell me more.`` one, ``Fine.`` none.
        """
        *asked, rest = _QUESTION_MARKS.split(self.text)
        parts = [part.strip() for part in asked if part.strip()]
        if _ASKS.match(_last_sentence(rest)):
            parts.append(rest.strip())
        return tuple(parts)


def question_stem(question: str) -> str:
    """Return a question's last sentence without choices after a colon, or words before one.

    ``It is cold. How old is it: new, old or older`` gives ``How old is it``, and so does ``One more
    question: How old is it``.
    """
    stem, _, rest = _last_sentence(question).partition(":")
    if _ASKS.match(rest) and not _ASKS.match(stem):
        return rest.partition(":")[0].strip()
    return stem


def has_too_many_choices(question: str) -> bool:
    """Return whether a question lists more than a person can choose from."""
    return len(re.split(r",|;| or | and ", question)) > MOST_CHOICES + 1


def _last_sentence(text: str) -> str:
    return re.split(r"(?<=[.!])\s+", text.strip())[-1]

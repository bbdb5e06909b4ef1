"""How well a question fits what a person went on to say, by rule.

======== ===========================================================================================
direct   the person went on to say what the question asks for
relevant the question is about something that the person went on to speak of, and asks for another
         thing about it
generic  it asks for anything at all: "Can you tell me more?"
off      none of these
======== ===========================================================================================

A question asks for an aspect (``aspects.py``). One that has none known is compared word by word: it
is direct if two content words, and half of all that it has, come back in what is told, and relevant
if one, and a quarter of all, do. Shares of the question, so that it gains nothing by more words.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from astuner_envs.learn_to_ask.aspects import asked_form, asked_subject, own_sentences, told
from astuner_envs.learn_to_ask.reply import has_too_many_choices, question_stem


class Fit(StrEnum):
    """How well a question fits, the best first."""

    DIRECT = "direct"
    RELEVANT = "relevant"
    GENERIC = "generic"
    OFF = "off"


_GENERIC: Final = re.compile(
    r"\b(?:anything else|tell me (?:more|about)|say more|(?:any|some) more (?:about|details?)|"
    r"describe|what (?:else|happened|seems|is wrong|is the (?:matter|problem))|explain|elaborate|"
    r"how can i help|brings you|more details?|other (?:concerns|problems|symptoms|information))",
    re.IGNORECASE,
)
_COMMON: Final = frozenset(
    re.findall(
        r"\S+",
        """
        about after again also another anything because been before being both came come could
        does doing done down each else ever every feel feeling find from getting give going
        gone good have having help here home into just keep kind know like long look made make
        many maybe mean might more most much need never nothing often only other over people
        please problem really right said same seem should since some something still such sure
        take tell than thank thanks that their them then there these they thing things think
        this those time today told very want well went were what when where which while will
        with without work would yeah year years your
        """,
    )
)


def fit(question: str, info: str) -> Fit:
    """Return how well one question fits what the person went on to say.

    Args:
        question: Without its mark.
        info: The row's ``info_truth``.
    """
    stem = question_stem(question)
    form, subject = asked_form(stem), asked_subject(stem)
    given = told(info)
    words = _content_words(stem)
    shared = len(words & _content_words(" ".join(own_sentences(info))))
    touched = shared > 0 and 4 * shared >= len(words)
    if form:
        found = _graded(direct=bool(form & given), relevant=bool(subject & given) or touched)
    elif subject:
        found = _graded(direct=bool(subject & given), relevant=touched)
    elif _GENERIC.search(stem):
        return Fit.GENERIC
    else:
        found = _graded(direct=shared > 1 and 2 * shared >= len(words), relevant=touched)
    return Fit.GENERIC if found is Fit.OFF and _GENERIC.search(stem) else found


def _graded(*, direct: bool, relevant: bool) -> Fit:
    if direct:
        return Fit.DIRECT
    return Fit.RELEVANT if relevant else Fit.OFF


def best_fit(questions: tuple[str, ...], info: str) -> Fit:
    """Return that of the question that fits best; ``off`` if there is none."""
    return min((fit(question, info) for question in questions), key=[*Fit].index, default=Fit.OFF)


def count_questions(questions: tuple[str, ...]) -> int:
    """Return for how many things questions ask: one that asks for two aspects counts as two.

    A list of choices longer than a person can choose from counts as one more.
    """
    return sum(
        _count_things(question_stem(question)) + has_too_many_choices(question)
        for question in questions
    )


def _count_things(stem: str) -> int:
    """Return how many aspects a question asks for; one that is about nothing known has one.

    "How long have you had the cough and the fever?" asks for one thing about two, "How long have
    you had the cough, the fever and the pain?" for more.
    """
    form, subject = len(asked_form(stem)), len(asked_subject(stem))
    return max(1, form, subject - 1 if form else subject)


def _content_words(text: str) -> frozenset[str]:
    """Return the words of four letters or more that carry meaning, cut to their beginnings."""
    words = re.findall(r"[^\W\d_]{4,}", text.lower())
    return frozenset(word[:6].removesuffix("s") for word in words if word not in _COMMON)

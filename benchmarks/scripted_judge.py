"""Answers of known features, and a server that judges them: a world in which a rubric is known.

Each answer is made of sentences, one for each feature, which say it or do not. The server speaks
OpenAI's chat protocol: asked for criteria it names those of its list that were not tried yet, asked
whether an answer meets one it looks for the sentence, and errs at a known rate.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that an answer may have."""

    question: str
    """As a criterion."""
    met: str
    """Sentence of an answer that has it."""
    not_met: str


FEATURES = (
    Feature("Does the answer name a unit?", "It comes to 12 kg.", "It comes to 12."),
    Feature("Does it show a check of the result?", "Back again: 12 - 5 = 7.", "That is it."),
    Feature("Does it give a reason?", "That follows from the sum.", "So it is."),
    Feature("Does it greet the reader?", "Good morning!", "Now then."),
    Feature("Does it mention a source?", "The manual says so on page 3.", "One knows this."),
    Feature("Does it warn of a danger?", "Mind the hot lid.", "Open the lid."),
    Feature("Does it ask something back?", "Which size do you have?", "Any size will do."),
    Feature("Does it admit doubt?", "I am not quite sure.", "I am sure."),
    Feature("Does it give an example?", "For instance, 3 of 5.", "And so on."),
    Feature("Does it name a date?", "It was on 4 May 1987.", "It was long ago."),
    Feature("Does it thank the reader?", "Thanks for asking.", "You asked."),
    Feature("Does it compare two things?", "Oak is harder than pine.", "Oak is hard."),
    Feature("Does it name a price?", "It costs 30 euros.", "It costs little."),
    Feature("Does it define a term?", "A fathom means six feet.", "Take a fathom."),
    Feature("Does it tell a joke?", "The duck paid the bill, ha ha.", "The duck swam."),
    Feature("Does it use a proverb?", "Haste makes waste.", "Go slowly."),
    Feature("Does it name a colour?", "Take the green one.", "Take the other one."),
    Feature("Does it address the reader by name?", "Well, Ada.", "Well."),
    Feature("Does it give a deadline?", "Do it before noon.", "Do it some time."),
    Feature("Does it say sorry?", "Sorry for the wait.", "Here we are."),
    Feature("Does it name a place?", "You find it in Oslo.", "You find it anywhere."),
    Feature("Does it list steps?", "First fill, second stir, third pour.", "Fill and pour."),
    Feature("Does it suggest another way?", "Or else bake it.", "Boil it."),
    Feature("Does it sum up?", "In short: yes.", "Yes."),
)


def make_answer(draws: Random) -> tuple[str, dict[str, bool]]:
    """Return an answer, and which questions it meets; each as likely as not."""
    met = {feature.question: draws.random() < 0.5 for feature in FEATURES}
    sentences = [feature.met if met[feature.question] else feature.not_met for feature in FEATURES]
    draws.shuffle(sentences)
    return " ".join(sentences), met


class ScriptedJudge:
    """Answers requests of the learner of rubrics.

    Args:
        seed: Names the order in which criteria are proposed, and the errors.
        error_rate: Share of the verdicts that are wrong, the same for the same question.
    """

    def __init__(self, *, seed: int, error_rate: float) -> None:
        self._seed = seed
        self._error_rate = error_rate
        self._proposals = [feature.question for feature in FEATURES]
        Random(f"proposals/{seed}").shuffle(self._proposals)
        self._sentences = {feature.question: feature.met for feature in FEATURES}

    def __call__(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Answer a request: for criteria, or for verdicts on one answer."""
        orders, shown = messages[0]["content"], messages[1]["content"]
        asked = re.findall(r"^\d+\. (.*)$", orders, re.MULTILINE)
        if not asked:
            tried = set(re.findall(r"^- (.*)$", orders, re.MULTILINE))
            most = re.search(r"at most (\d+) questions", orders)
            assert most is not None
            untried = [each for each in self._proposals if each not in tried]
            return "\n".join(f"- {each}" for each in untried[: int(most[1])]) or "- Any other?"
        verdicts = [self._verdict(question, shown) for question in asked]
        lines = (
            f"{number}: {'yes' if verdict else 'no'}"
            for number, verdict in enumerate(verdicts, start=1)
        )
        return "\n".join(lines)

    def _verdict(self, question: str, shown: str) -> bool:
        # To what it does not know, such as whether an answer is good, it says yes.
        found = self._sentences.get(question, "") in shown
        digest = hashlib.sha256(f"{self._seed}/{question}/{shown}".encode()).digest()
        errs = int.from_bytes(digest[:8], "big") / 2**64 < self._error_rate
        return found is not errs

"""How much of a user's own dialogues the rule judge knows.

``python -m astuner_envs.learn_to_ask.rule_on_logs logs.jsonl`` (or MTS-Dialog's CSV) grades, at
each row to go on from, what the clerk of the log asked next, and beside it what the clerk asked in
another dialogue. People mostly answer what they are asked, so a judge that knows the words of a log
calls many of the first direct and few of the second. Where the two are close, use ``judge=llm``.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from astuner_envs.learn_to_ask.content import Fit, best_fit
from astuner_envs.learn_to_ask.pipeline import rows
from astuner_envs.learn_to_ask.records import Decision, Session, Speaker
from astuner_envs.learn_to_ask.reply import Reply
from astuner_envs.learn_to_ask.tasks import read_sessions
from astuner_gym.errors import TaskDataError, UnusableInputError


@dataclass(frozen=True, slots=True)
class Asked:
    """What a clerk asked, and what the person went on to say in that dialogue."""

    session_id: str
    questions: tuple[str, ...]
    info: str


def asked_next(sessions: Iterable[Session]) -> list[Asked]:
    """Return what clerks asked where it was right to ask; turns without a question are left out."""
    found = []
    for session in sessions:
        for row in rows(session):
            said = []
            for message in session.messages[len(row.history) :]:
                if message.speaker is Speaker.PERSON:
                    break
                said.append(message.text)
            questions = Reply("\n".join(said)).questions
            if row.decision is Decision.CONTINUE and questions:
                found.append(Asked(session.id, questions, row.info))
    return found


def grade(asked: Sequence[Asked]) -> tuple[Counter[Fit], Counter[Fit]]:
    """Return how the questions fit their own dialogues, and how they fit another.

    The other is the one that comes half of all questions later, around the end.
    """
    own: Counter[Fit] = Counter()
    other: Counter[Fit] = Counter()
    for number, each in enumerate(asked):
        far = asked[(number + len(asked) // 2) % len(asked)]
        own[best_fit(each.questions, each.info)] += 1
        if far.session_id != each.session_id:
            other[best_fit(each.questions, far.info)] += 1
    return own, other


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables and return the exit status: 0 done, 2 unusable input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sessions", type=Path, help="JSONL of sessions, or CSV of MTS-Dialog")
    options = parser.parse_args(arguments)
    try:
        asked = asked_next(read_sessions(options.sessions))
        own, other = grade(asked)
        if not other:
            raise TaskDataError(f"{options.sessions}: at least two dialogues must hold a question")
    except UnusableInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(asked)} questions{'':10}own dialogue   another")
    for fit in Fit:
        print(f"{fit:22}{own[fit] / own.total():12.1%}{other[fit] / other.total():10.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

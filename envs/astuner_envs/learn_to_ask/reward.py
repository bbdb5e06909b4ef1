"""Rewards: how decision, content and format become one number.

With a in {0, 1} for the right decision, c for content and f for format, the published reward is
R = a(1 + 2c) + f, at most 4; a wrong decision has c = f = 0, so it is worth nothing. Other fusions
are known by name:

========== ============ ===== ====================================================================
name       R            most  published as
========== ============ ===== ====================================================================
product    a(1 + 2c)+f  4     the reward of the paper
sum        a + c + f    3     "sum"
content    2c + f       3     R_a in the published code, which the README beside it calls R_s
decision   3a + f       4     R_s in the published code, which the README beside it calls R_a
========== ============ ===== ====================================================================

A reply that asks for three things or more has f = 0, and here c = 0 too: by the best of many
questions, a list of all that could be asked would earn more than most single ones.

Two scales for content were published, and scores on them are not comparable:

========= ====== ======== ======= ===
scale     direct relevant generic off
========= ====== ======== ======= ===
trinity   1      0.5      0       0
agentjet  1      0.1      0.1     0
========= ====== ======== ======= ===
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from astuner_envs.learn_to_ask.content import Fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What a reply is judged by."""

    decision: float
    """1 for the right one, else 0."""
    content: float
    """0 to 1."""
    format: float
    """1 for one question or a bare ``<stop />``, 0.5 for two questions, else 0."""


WRONG_DECISION: Final = Marks(decision=0.0, content=0.0, format=0.0)

Fusion: TypeAlias = Callable[[Marks], float]

FUSIONS: Final[Mapping[str, Fusion]] = {
    "product": lambda marks: marks.decision * (1 + 2 * marks.content) + marks.format,
    "sum": lambda marks: marks.decision + marks.content + marks.format,
    "content": lambda marks: 2 * marks.content + marks.format,
    "decision": lambda marks: 3 * marks.decision + marks.format,
}
SCALES: Final[Mapping[str, Mapping[Fit, float]]] = {
    "trinity": {Fit.DIRECT: 1.0, Fit.RELEVANT: 0.5, Fit.GENERIC: 0.0, Fit.OFF: 0.0},
    "agentjet": {Fit.DIRECT: 1.0, Fit.RELEVANT: 0.1, Fit.GENERIC: 0.1, Fit.OFF: 0.0},
}


def format_mark(questions: int) -> float:
    """Return f of a reply that asks for so many things; none is as bad as three."""
    return {1: 1.0, 2: 0.5}.get(questions, 0.0)


def asking_marks(*, content: float, form: float) -> Marks:
    """Return the marks of a reply that was right to ask.

    Args:
        content: What its best question is worth.
        form: Its format mark; at 0 the content is worth nothing.
    """
    return Marks(decision=1.0, content=content if form else 0.0, format=form)

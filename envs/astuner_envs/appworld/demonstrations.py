"""Requests of the mini world done by an expert, in words: what a model imitates before it learns.

What the expert's code leads to is known without the engine, which the tests compare. With a stated
rate one errs: in the last piece of code a word is another one, such as the id of the wrong row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from astuner_envs.appworld.mini.scenarios import TRAINED, Variant, variants
from astuner_envs.appworld.workflow import SYSTEM_PROMPT, person_line
from astuner_gym.chat.messages import ChatMessage, ChatRole, Conversation

FIRST_SCENARIO: Final = 1_000
"""Those below are tasks of the mini world, to train on or held out."""
HELD_OUT_SCENARIO: Final = 900_000


def expert_replies(variant: Variant, *, rng: Random | None = None) -> tuple[str, ...]:
    """Return what the expert replies, one after the other.

    Args:
        variant: The task.
        rng: Draws the error of one who errs; None for no error.
    """
    turns = list(variant.turns)
    if rng is not None:
        right, wrong = variant.slips[int(rng.random() * len(variant.slips))]
        turns[-1] = turns[-1].replace(right, wrong)
    return tuple(f"```python\n{turn}\n```" for turn in turns)


def conversation(variant: Variant, *, rng: Random | None = None) -> Conversation:
    """Return the whole exchange; see :func:`expert_replies`."""
    person = variant.person
    told = (
        f"{person_line(person.name, person.email, person.phone_number)}: {variant.instruction}",
        *variant.outputs,
    )
    messages = [ChatMessage(role=ChatRole.SYSTEM, text=SYSTEM_PROMPT)]
    for text, reply in zip(told, expert_replies(variant, rng=rng), strict=True):
        messages += [
            ChatMessage(role=ChatRole.USER, text=text),
            ChatMessage(role=ChatRole.ASSISTANT, text=reply),
        ]
    return Conversation(messages=tuple(messages))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertConversations:
    """Exchanges of consecutive scenarios of all trained kinds, made one by one."""

    first: int
    """Number of the first scenario."""
    scenarios: int
    """How many there are of each kind, of three variants each."""
    error_rate: float
    """Share that errs, drawn from (kind, scenario, variant)."""

    def __iter__(self) -> Iterator[Conversation]:
        for number in range(self.first, self.first + self.scenarios):
            for name, template in TRAINED.items():
                for index, variant in enumerate(variants(name, template, scenario=number)):
                    rng = Random(f"appworld-slip/{name}/{number}/{index}")
                    errs = rng.random() < self.error_rate
                    yield conversation(variant, rng=rng if errs else None)

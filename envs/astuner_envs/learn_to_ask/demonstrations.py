"""What a clerk would say next, for a supervised warm start, with a stated share of natural errors.

Without an error a demonstration asks for the first thing that is missing, in the plain way with
choices, or stops if nothing is. Whether and how one errs is drawn from (seed, index) and not from
the dialogue: a policy that imitates it well errs about as often at temperature 1.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from astuner_envs.learn_to_ask.intake.slots import SLOTS
from astuner_envs.learn_to_ask.intake.turns import IntakeTurn, IntakeTurns
from astuner_envs.learn_to_ask.records import Speaker
from astuner_envs.learn_to_ask.reply import STOP
from astuner_envs.learn_to_ask.workflow import SYSTEM_PROMPT, turns
from astuner_gym.chat.messages import ChatMessage, ChatRole, Conversation


class Slip(StrEnum):
    """The kinds of error."""

    EARLY = "early"
    """It stops though something is missing."""
    AGAIN = "again"
    """It asks for what has been told."""
    BESIDE = "beside"
    """It asks for what does not matter in this case."""
    TWO = "two"
    """It asks two questions at once."""
    OPEN = "open"
    """It asks for anything at all."""
    LATE = "late"
    """It asks on though nothing is missing."""
    WORDY = "wordy"
    """It says more than the mark by which it stops."""


OPEN_QUESTION = "Can you tell me more?"


def expert_reply(turn: IntakeTurn) -> str:
    """Return the reply with full marks."""
    return SLOTS[turn.missing[0]].questions[0] if turn.missing else STOP


def wrong_reply(turn: IntakeTurn, rng: random.Random) -> str:
    """Return a reply with one error, each kind that is possible here being as likely."""
    matter = [name for name, _ in turn.intake.case[1:]]
    told = [name for name in matter if name not in turn.missing]
    beside = [name for name in SLOTS if name not in matter]
    if turn.missing:
        kinds = [Slip.EARLY, Slip.BESIDE, Slip.OPEN]
        kinds += [Slip.AGAIN] * bool(told) + [Slip.TWO] * (len(turn.missing) > 1)
    else:
        kinds = [Slip.LATE, Slip.WORDY]
    match _pick(rng, kinds):
        case Slip.EARLY:
            return STOP
        case Slip.AGAIN | Slip.LATE:
            return SLOTS[_pick(rng, told)].questions[0]
        case Slip.BESIDE:
            return SLOTS[_pick(rng, beside)].questions[0]
        case Slip.TWO:
            return " ".join(SLOTS[name].questions[0] for name in turn.missing[:2])
        case Slip.OPEN:
            return OPEN_QUESTION
        case _:
            return f"Thank you. {STOP}"


def conversation(turn: IntakeTurn, reply: str) -> Conversation:
    """Return the messages that the agent would have before and after it replies."""
    roles = {Speaker.PERSON: ChatRole.USER, Speaker.CLERK: ChatRole.ASSISTANT}
    return Conversation(
        messages=(
            ChatMessage(role=ChatRole.SYSTEM, text=SYSTEM_PROMPT),
            *(
                ChatMessage(role=roles[message.speaker], text=message.text)
                for message in turns(turn.row.history)
            ),
            ChatMessage(role=ChatRole.ASSISTANT, text=reply),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClerkConversations:
    """Demonstrations for turns, made one by one as they are asked for."""

    turns: IntakeTurns
    error_rate: float
    """Share that has an error."""
    seed: int

    def __iter__(self) -> Iterator[Conversation]:
        for index, turn in enumerate(self.turns):
            key = hashlib.blake2b(f"{self.seed}/{index}".encode(), digest_size=8).digest()
            rng = random.Random(int.from_bytes(key))
            errs = rng.random() < self.error_rate
            yield conversation(turn, wrong_reply(turn, rng) if errs else expert_reply(turn))


def _pick(rng: random.Random, options: Sequence[str]) -> str:
    # Only random() is promised to be the same in every version of Python.
    return options[int(rng.random() * len(options))]

"""Policies without learning, that a trained one is compared with.

``python -m astuner_envs.learn_to_ask.baselines`` prints what each earns on rows of both
sets that are never trained on.

- *stop*: always stops.
- *fixed question*: always asks what has been tried, which earns most of all single questions.
- *random question*: asks a random one of all questions.
- *all questions*: asks every question at once.
- *last turn again*: says again what it has just heard.
- *slot table*: knows for each thing what always matters, asks for the first slot of which no word
  has been said, and then stops. It is misled by distractors and paraphrases, and knows of no
  hidden or waived slots.
- *reading table*: the same table, read with the rule judge's own knowledge of what sentences tell.
- *no list*: knows what has been told, what follows from it, and that four slots always matter, but
  not which: how far one gets with a thing that one has never heard of.
- *expert*: knows the case; what can be reached.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Final, TypeAlias

from astuner_envs.learn_to_ask.aspects import told
from astuner_envs.learn_to_ask.demonstrations import expert_reply
from astuner_envs.learn_to_ask.intake import Intakes, Split
from astuner_envs.learn_to_ask.intake.slots import SLOTS
from astuner_envs.learn_to_ask.intake.topics import TRAIN_TOPICS, UNSEEN_TOPICS
from astuner_envs.learn_to_ask.intake.turns import IntakeTurn, IntakeTurns
from astuner_envs.learn_to_ask.judge import LearnToAskJudge, RuleGrader
from astuner_envs.learn_to_ask.records import Speaker
from astuner_envs.learn_to_ask.reply import STOP
from astuner_envs.learn_to_ask.reward import FUSIONS, SCALES
from astuner_gym.judge import Score
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult

Policy: TypeAlias = Callable[[IntakeTurn, random.Random], str]
"""What is said next; draws come from the generator."""
ROWS: Final = 2_000
FIGURES: Final = ("decision", "stop_accuracy", "continue_accuracy", "content")
ALWAYS_MATTER: Final = 4
"""How many slots a thing has that matter whatever else is said."""
_TABLE: Final = {topic.name: topic.slots for topic in TRAIN_TOPICS + UNSEEN_TOPICS}
_HIDDEN: Final = {
    name for slot in SLOTS.values() for value in slot.values for name in value.leads_to
}
_ALWAYS: Final = [name for name in SLOTS if name not in _HIDDEN]


def always_stop(turn: IntakeTurn, rng: random.Random) -> str:
    """Stop."""
    return STOP


def fixed_question(turn: IntakeTurn, rng: random.Random) -> str:
    """Ask what has been tried."""
    return SLOTS["tried"].questions[0]


def random_question(turn: IntakeTurn, rng: random.Random) -> str:
    """Ask for anything."""
    return rng.choice([*SLOTS.values()]).questions[0]


def all_questions(turn: IntakeTurn, rng: random.Random) -> str:
    """Ask for everything."""
    return " ".join(slot.questions[0] for slot in SLOTS.values())


def last_turn_again(turn: IntakeTurn, rng: random.Random) -> str:
    """Say again what the person has just said, as a question."""
    return f"{turn.row.history[-1].text.rstrip('.')}?"


def slot_table(turn: IntakeTurn, rng: random.Random) -> str:
    """Ask for the first slot of the thing's table of which no word has been said."""
    said = {
        word
        for message in turn.row.history
        if message.speaker is Speaker.PERSON
        for word in re.findall(r"\w+", message.text.lower())
    }
    for name in _TABLE[turn.row.topic]:
        if said.isdisjoint(SLOTS[name].words):
            return SLOTS[name].questions[0]
    return STOP


def reading_table(turn: IntakeTurn, rng: random.Random) -> str:
    """Ask for the first slot of the thing's table that the judge would not take for told."""
    said = frozenset[str]().union(
        *(told(message.text) for message in turn.row.history if message.speaker is Speaker.PERSON)
    )
    for name in _TABLE[turn.row.topic]:
        if not told(SLOTS[name].values[0].said[0]) <= said:
            return SLOTS[name].questions[0]
    return STOP


def no_list(turn: IntakeTurn, rng: random.Random) -> str:
    """Ask for what follows from what is told, then for any slot until four are told or waived."""
    known = [
        (slot, value)
        for slot, value in turn.intake.case
        if slot in SLOTS and slot not in turn.missing
    ]
    values = [value for slot, name in known for value in SLOTS[slot].values if value.name == name]
    followed = [name for value in values for name in value.leads_to if name in turn.missing]
    if followed:
        return SLOTS[followed[0]].questions[0]
    settled = {slot for slot, _ in known} | {name for value in values for name in value.waives}
    open_slots = [name for name in _ALWAYS if name not in settled]
    if len(_ALWAYS) - len(open_slots) >= ALWAYS_MATTER:
        return STOP
    return SLOTS[rng.choice(open_slots)].questions[0]


def expert(turn: IntakeTurn, rng: random.Random) -> str:
    """Ask for the first thing that is missing."""
    return expert_reply(turn)


BASELINES: Final[Mapping[str, Policy]] = {
    "stop": always_stop,
    "fixed question": fixed_question,
    "random question": random_question,
    "all questions": all_questions,
    "last turn again": last_turn_again,
    "slot table": slot_table,
    "reading table": reading_table,
    "no list": no_list,
    "expert": expert,
}


def play(policy: Policy, turns: Iterable[IntakeTurn], *, fusion: str, scale: str) -> list[Score]:
    """Return what the rule judge gives a policy for each turn."""
    judge = LearnToAskJudge(grader=RuleGrader(SCALES[scale]), fusion=FUSIONS[fusion])

    async def scores() -> list[Score]:
        rng = random.Random(0)
        return [
            await judge.score(
                Task(id=turn.row.id, record=turn.row.record),
                WorkflowResult(output=policy(turn, rng)),
            )
            for turn in turns
        ]

    return asyncio.run(scores())


def main() -> None:
    """Print a table for each set."""
    for split in (Split.HELDOUT, Split.UNSEEN):
        print(f"{split:18}", *(f"{name:>9}" for name in ("reward", *FIGURES, "full marks")))
        turns = list(IntakeTurns(Intakes(split, size=ROWS)))
        for name, policy in BASELINES.items():
            scores = play(policy, turns, fusion="product", scale="trinity")
            print(f"{name:18} {fmean(score.reward('clerk') for score in scores):9.2f}", end=" ")
            for figure in FIGURES:
                values = [score.metrics[figure] for score in scores if figure in score.metrics]
                print(f"{fmean(values):{max(9, len(figure))}.3f}", end=" ")
            print(f"{fmean(score.success for score in scores):10.3f}")


if __name__ == "__main__":
    main()

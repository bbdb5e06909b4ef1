"""Policies without learning, that a trained one is compared with.

``python -m astuner_envs.learn_to_ask.baselines`` prints what each earns on held-out rows.

- *stop*: always stops.
- *fixed question*: always asks since when it is so.
- *random question*: asks a random one of all questions.
- *slot table*: knows for each thing what always matters, asks for the first slot of which no word
  has been said, and then stops. It is misled by distractors and paraphrases, and knows of no
  hidden or waived slots.
- *expert*: knows the case; what can be reached.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Final, TypeAlias

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
_TABLE: Final = {topic.name: topic.slots for topic in TRAIN_TOPICS + UNSEEN_TOPICS}


def always_stop(turn: IntakeTurn, rng: random.Random) -> str:
    """Stop."""
    return STOP


def fixed_question(turn: IntakeTurn, rng: random.Random) -> str:
    """Ask since when it is so."""
    return SLOTS["onset"].questions[0]


def random_question(turn: IntakeTurn, rng: random.Random) -> str:
    """Ask for anything."""
    return rng.choice([*SLOTS.values()]).questions[0]


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


def expert(turn: IntakeTurn, rng: random.Random) -> str:
    """Ask for the first thing that is missing."""
    return expert_reply(turn)


BASELINES: Final[Mapping[str, Policy]] = {
    "stop": always_stop,
    "fixed question": fixed_question,
    "random question": random_question,
    "slot table": slot_table,
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
    """Print a table."""
    print(
        f"{'':18}{'reward':>8}{'decision':>10}{'stop':>8}{'continue':>10}{'content':>9}{'full':>7}"
    )
    turns = list(IntakeTurns(Intakes(Split.HELDOUT, size=ROWS)))
    for name, policy in BASELINES.items():
        scores = play(policy, turns, fusion="product", scale="trinity")
        reward = fmean(score.reward("clerk") for score in scores)
        figures = [
            fmean(score.metrics[figure] for score in scores if figure in score.metrics)
            for figure in ("decision", "stop_accuracy", "continue_accuracy", "content")
        ]
        full = fmean(score.success for score in scores)
        print(
            f"{name:18}{reward:8.2f}{figures[0]:10.3f}{figures[1]:8.3f}{figures[2]:10.3f}"
            f"{figures[3]:9.3f}{full:7.3f}"
        )


if __name__ == "__main__":
    main()

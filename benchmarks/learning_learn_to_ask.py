"""Whether reinforcement learning teaches the tiny model to ask at ``env=learn_to_ask``.

How it is measured: ``benchmarks.learning``; a task is a generated dialogue so far, and it is solved
if the reply has full marks from the rule judge. The parts, with the project's default settings:

- *grpo* and *ppo*: ``python -m astuner_rl.train env=learn_to_ask algo=… seed=…``
- *control*: that of *grpo* with rewards permuted within groups.
- *sft*: the warm start, continued by supervised learning for as long as *grpo*.

The bars are over *grpo* on ``heldout`` at temperature 1, each over its worst seed. The reward is
the published one, from 0 to 4; its intervals before and after are apart where
``reward_intervals_distance_min`` is above 0. ``unseen`` has dialogues about other things.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from astuner_rl.tracing.intervals import bootstrap_interval
from benchmarks.learning import (
    HEADLINE,
    Benchmark,
    Part,
    Result,
    Results,
    main,
    reward_gain,
    trained,
    usual_parts,
)
from benchmarks.report import Bar

REWARD_RANGE = 4.0
LARGEST_FALL = 0.02
KEPT = ("stop_accuracy", "continue_accuracy", "content")
GRPO, CONTROL, PPO, SFT = usual_parts("env=learn_to_ask")


def bars(results: Results) -> dict[str, Bar]:
    """The goals, each over its worst seed; NaN, which meets none, for a part that was not run."""
    gains = _of_seeds(results, GRPO, lambda old, new: reward_gain(old, new, HEADLINE).mean)
    control = _of_seeds(
        results, CONTROL, lambda old, new: abs(reward_gain(old, new, HEADLINE).mean) / REWARD_RANGE
    )
    distances = _of_seeds(results, GRPO, _distance_of_intervals)
    return {
        "reward_gain_min_over_seeds": Bar(min(gains, default=math.nan), ">", 0.0),
        "reward_intervals_distance_min": Bar(min(distances, default=math.nan), ">", 0.0),
        **{
            f"{figure}_change_min": Bar(
                min(_changes(results, figure), default=math.nan), ">=", -LARGEST_FALL
            )
            for figure in KEPT
        },
        "control_change_max": Bar(max(control, default=math.nan), "<=", 0.05),
        "minutes_max": Bar(
            max((run.minutes for run in trained(results, GRPO, PPO)), default=math.nan), "<=", 45.0
        ),
    }


def _changes(results: Results, figure: str) -> list[float]:
    """By how much a figure of the judge changed, one a seed; NaN where no task has it."""

    def change(before: Result, after: Result) -> float:
        old, new = (
            result.means.get(HEADLINE, {}).get(f"judge/{figure}", math.nan)
            for result in (before, after)
        )
        return new - old

    return _of_seeds(results, GRPO, change)


def _distance_of_intervals(before: Result, after: Result) -> float:
    """How far the interval after lies above that before; negative where they overlap."""
    old, new = (bootstrap_interval(result.rewards[HEADLINE], seed=0) for result in (before, after))
    return new.low - old.high


def _of_seeds(
    results: Results, part: Part, measure: Callable[[Result, Result], float]
) -> list[float]:
    return [
        measure(results[part.base, seed], after)
        for (name, seed), after in results.items()
        if name == part.name
    ]


BENCHMARK = Benchmark(
    name="learning_learn_to_ask",
    about="Whether reinforcement learning teaches the tiny model to ask at env=learn_to_ask.",
    parts=(GRPO, CONTROL, PPO, SFT),
    bars=bars,
    sft_examples=30_000,
)

if __name__ == "__main__":
    main(BENCHMARK)

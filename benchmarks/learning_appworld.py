"""Whether reinforcement learning teaches the tiny model to do the tasks of ``env=appworld``.

How it is measured: ``benchmarks.learning``. The parts, with the project's default settings:

- *grpo* and *ppo*: ``python -m astuner_rl.train env=appworld algo=… seed=…``
- *control*: that of *grpo* with rewards permuted within groups.
- *sft*: the warm start, continued by supervised learning for as long as *grpo*.

``heldout`` has the kinds of request that training has with other persons and words, ``unseen`` has
kinds that training has not. Each task is played four times at temperature 1: with once, the
difference between two policies is known to within 0.05, as much as the control may change. Needs
``scripts/setup_appworld``.
"""

from __future__ import annotations

import math

from benchmarks.learning import HEADLINE, Benchmark, Part, Results, main, trained, usual_parts
from benchmarks.report import Bar

GRPO, CONTROL, PPO, SFT = usual_parts("env=appworld")


def dense_gains(results: Results, part: Part) -> list[float]:
    """By how much a part raised the mean dense reward, one figure a seed."""
    return [
        after.means[HEADLINE]["judge/dense"]
        - results[part.base, seed].means[HEADLINE]["judge/dense"]
        for (name, seed), after in results.items()
        if name == part.name
    ]


def bars(results: Results) -> dict[str, Bar]:
    """The goals, each over its worst seed; NaN, which meets none, for a part that was not run."""
    runs = trained(results, GRPO, PPO)
    gain = min(dense_gains(results, GRPO), default=math.nan)
    control = max(map(abs, dense_gains(results, CONTROL)), default=math.nan)
    minutes = max((run.minutes for run in runs), default=math.nan)
    return {
        "appworld_dense_gain_min_over_seeds": Bar(gain, ">=", 0.10),
        "control_change_max": Bar(control, "<=", 0.05),
        "train_minutes_max": Bar(minutes, "<=", 45.0),
    }


BENCHMARK = Benchmark(
    name="learning_appworld",
    about="Whether reinforcement learning teaches the tiny model to do tasks of env=appworld.",
    parts=(GRPO, CONTROL, PPO, SFT),
    bars=bars,
    sft_examples=9_000,
    samples=4,
)

if __name__ == "__main__":
    main(BENCHMARK)

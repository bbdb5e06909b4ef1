"""Whether reinforcement learning teaches the tiny model to solve ``env=gsm8k``.

How it is measured: ``benchmarks.learning``. The parts, with the project's default settings:

- *grpo* and *ppo*: ``python -m astuner_rl.train env=gsm8k algo=… seed=…``
- *control*: that of *grpo* with rewards permuted within groups.
- *sft*: the warm start, continued by supervised learning for as long as *grpo*.

``heldout`` has the templates of the training problems with other numbers and names, ``unseen`` has
templates that training has not.
"""

from __future__ import annotations

import math

from benchmarks.learning import (
    HEADLINE,
    Benchmark,
    Results,
    gains,
    main,
    trained,
    usual_parts,
)
from benchmarks.report import Bar

GRPO, CONTROL, PPO, SFT = usual_parts("env=gsm8k")


def bars(results: Results) -> dict[str, Bar]:
    """The goals, each over its worst seed; NaN, which meets none, for a part that was not run."""
    runs = trained(results, GRPO, PPO)
    final = [after.accuracy(HEADLINE) for after in trained(results, GRPO)]
    control = map(abs, gains(results, CONTROL))
    unseen = gains(results, GRPO, measured="unseen T=1")
    return {
        "gain_min_over_seeds": Bar(min(gains(results, GRPO), default=math.nan), ">=", 0.25),
        "final_min_over_seeds": Bar(min(final, default=math.nan), ">=", 0.75),
        "control_change_max": Bar(max(control, default=math.nan), "<=", 0.05),
        "train_minutes_max": Bar(max((run.minutes for run in runs), default=math.nan), "<=", 10.0),
        "peak_rss_gb": Bar(max((run.peak_rss_gb for run in runs), default=math.nan), "<=", 3.0),
        "ppo_gain_min": Bar(min(gains(results, PPO), default=math.nan), ">=", 0.15),
        "unseen_template_gain_min": Bar(min(unseen, default=math.nan), ">=", 0.0),
    }


BENCHMARK = Benchmark(
    name="learning_gsm8k",
    about="Whether reinforcement learning teaches the tiny model to solve env=gsm8k.",
    parts=(GRPO, CONTROL, PPO, SFT),
    bars=bars,
    sft_examples=30_000,
)

if __name__ == "__main__":
    main(BENCHMARK)

"""Whether reinforcement learning teaches the tiny model to win at ``env=werewolves``.

How it is measured: ``benchmarks.learning``; a task is a game of seven players, and it is solved if
the side that learns wins; ``judge/illegal`` among the means is the share of replies that the rules
do not allow. The parts, otherwise with the project's default settings:

- *wolves*: ``env=werewolves algo=grpo``, two wolves against a scripted village that believes its
  seer (``seer_following``).
- *village*: ``env.trainable=[villager] env.wolves=uniform``, the three villagers of a village whose
  seer and witch are scripted (``seer_following``), against wolves who play at random; contexts have
  at most 512 tokens, which is room enough for a villager.
- *control*: *wolves* with rewards permuted within groups.
- *sft*: the warm start, which imitates players who choose at random, continued for as long as
  *wolves* took.
"""

from __future__ import annotations

import math

from benchmarks.learning import PERMUTED, Benchmark, Part, Results, gains, main, trained
from benchmarks.report import Bar

AS_WOLVES = ("env=werewolves", "env.baselines=[]")
AS_VILLAGE = (
    *AS_WOLVES,
    "env.trainable=[villager]",
    "env.wolves=uniform",
    "sampler.context_length=512",
)
WOLVES = Part(name="wolves", base="base-wolves", environment=AS_WOLVES, algorithm=("algo=grpo",))
VILLAGE = Part(
    name="village", base="base-village", environment=AS_VILLAGE, algorithm=("algo=grpo",)
)
CONTROL = Part(
    name="control",
    base="base-wolves",
    environment=AS_WOLVES,
    algorithm=("algo=grpo",),
    module=PERMUTED,
)
SFT = Part(
    name="sft",
    base="base-wolves",
    environment=AS_WOLVES,
    algorithm=("algo=sft",),
    as_long_as="wolves",
)


def bars(results: Results) -> dict[str, Bar]:
    """The goals, each over its worst seed; NaN, which meets none, for a part that was not run."""
    runs = trained(results, WOLVES, VILLAGE)
    control = map(abs, gains(results, CONTROL))
    return {
        "wolves_gain_min_over_seeds": Bar(
            min(gains(results, WOLVES), default=math.nan), ">=", 0.15
        ),
        "village_gain_min_over_seeds": Bar(
            min(gains(results, VILLAGE), default=math.nan), ">=", 0.10
        ),
        "control_change_max": Bar(max(control, default=math.nan), "<=", 0.05),
        "minutes_max": Bar(max((run.minutes for run in runs), default=math.nan), "<=", 45.0),
    }


BENCHMARK = Benchmark(
    name="learning_werewolves",
    about="Whether reinforcement learning teaches the tiny model to win at env=werewolves.",
    parts=(WOLVES, VILLAGE, CONTROL, SFT),
    bars=bars,
    sft_examples=12_000,
)

if __name__ == "__main__":
    main(BENCHMARK)

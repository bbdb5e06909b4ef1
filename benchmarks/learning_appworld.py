"""Whether reinforcement learning teaches the tiny model to do the tasks of ``env=appworld``.

How it is measured: ``benchmarks.learning``. The parts, with the project's default settings:

- *grpo*: ``python -m astuner_rl.train env=appworld algo=grpo seed=…``
- *control*: the same with rewards permuted within groups.
- *sft*: the warm start, continued by supervised learning for as long as *grpo*.

PPO is not among them: what it teaches here is not measured. What is kept in ``results`` is of four
seeds, ``--seeds 0 1 2 3``, on processors of two kinds: ``not_measured`` names what each lacks.

``heldout`` has the kinds of request that training has, drawn anew from the same persons and words:
of the 512 that are measured 234 are asked neither in training nor in a demonstration, and figures
are given for them alone, too. ``unseen`` has kinds that training has not. Each task is played four
times at temperature 1: with once, the difference between two policies is known to within 0.05, as
much as the control may change. Needs ``scripts/setup_appworld``.
"""

from __future__ import annotations

import math
from dataclasses import asdict

from astuner_envs.appworld.config import DEMONSTRATED_SCENARIOS
from astuner_envs.appworld.demonstrations import FIRST_SCENARIO
from astuner_envs.appworld.mini.plan import numbered_variants
from astuner_envs.appworld.mini.scenarios import TRAINED, Variant, variants
from astuner_rl.tracing.intervals import bootstrap_interval
from benchmarks.learning import HEADLINE, Benchmark, Part, Results, main, trained, usual_parts
from benchmarks.report import Bar

GRPO, CONTROL, _, SFT = usual_parts("env=appworld")


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
    runs = trained(results, GRPO)
    gain = min(dense_gains(results, GRPO), default=math.nan)
    control = max(map(abs, dense_gains(results, CONTROL)), default=math.nan)
    minutes = max((run.minutes for run in runs), default=math.nan)
    return {
        "appworld_dense_gain_min_over_seeds": Bar(gain, ">=", 0.10),
        "control_change_max": Bar(control, "<=", 0.05),
        "train_minutes_max": Bar(minutes, "<=", 45.0),
    }


def new_requests() -> list[bool]:
    """Whether a task of ``heldout`` asks for what no task of training and no demonstration does.

    Requests are the same if the same person asks in the same words, whatever the databases hold.
    """
    tasks = [(split, request(variant)) for split, _, variant in numbered_variants()]
    known = {asked for split, asked in tasks if split == "train"} | {
        request(variant)
        for name, template in TRAINED.items()
        for scenario in range(FIRST_SCENARIO, FIRST_SCENARIO + DEMONSTRATED_SCENARIOS)
        for variant in variants(name, template, scenario=scenario)
    }
    return [asked not in known for split, asked in tasks if split == "heldout"]


def request(variant: Variant) -> tuple[str, str]:
    """Who asks, and for what."""
    return variant.person.name, variant.instruction


def on_new_requests(results: Results) -> dict[str, object]:
    """Dense reward of the requests that are new, by part and seed: before, after and gain."""
    new = new_requests()
    found: dict[str, object] = {}
    for part in BENCHMARK.parts:
        for (name, seed), after in results.items():
            if name != part.name:
                continue
            before = results[part.base, seed].rewards[HEADLINE]
            both = zip(before, after.rewards[HEADLINE], strict=True)
            # Fewer than all tasks may have been measured.
            pairs = [pair for pair, is_new in zip(both, new, strict=False) if is_new]
            if not pairs:
                continue
            found[f"{name}-s{seed}"] = {
                "tasks": len(pairs),
                "before": asdict(bootstrap_interval([b for b, _ in pairs], seed=0)),
                "after": asdict(bootstrap_interval([a for _, a in pairs], seed=0)),
                "gain": asdict(bootstrap_interval([a - b for b, a in pairs], seed=0)),
            }
    return {"new_requests": found}


BENCHMARK = Benchmark(
    name="learning_appworld",
    about="Whether reinforcement learning teaches the tiny model to do tasks of env=appworld.",
    parts=(GRPO, CONTROL, SFT),
    bars=bars,
    sft_examples=9_000,
    samples=4,
    further=on_new_requests,
)

if __name__ == "__main__":
    main(BENCHMARK)

"""What it brings to sample ahead of learning: wall-clock beside the bound that no loop can beat.

The tiny model is trained at ``env=gsm8k algo=grpo`` by two processes: one plays the episodes and
samples, with one thread (``backbone=ray backbone.samplers.count=0``), and one learns, with another.
Three ways, in turns:

- *synchronous*: ``overlap.max_staleness=0``. It gives the time of rollouts alone, R, and of
  learning and handing over the weights alone, L, over the steps.
- *ahead*: ``overlap.max_staleness=1``; weights change between batches.
- *in flight*: the same with ``overlap.in_flight=true``.

The learning rate is so small (1e-12) that every way samples and trains the same tokens, which is
checked. Timed are all steps, from the first task to the last record: each way pays for what it
records, and those that sample ahead for their first batch, when there is nothing to learn from yet,
and for their last, when there is nothing left to sample. ``async_over_bound`` is the default
asynchronous way, ahead, over max(R, L) of the same round; the median of all rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from astuner_rl.assembly import build_environment, build_pretrained, build_renderer
from astuner_rl.backbones.held_out import HeldOutEvaluator
from astuner_rl.backbones.loop import LoopState, TrainingLoop
from astuner_rl.composition import compose_experiment
from astuner_rl.deployment import Deployment, Ingredients
from astuner_rl.ray_deployment import ray_deployment
from astuner_rl.tracing.episode_json import LoggedEpisode
from astuner_rl.tracing.episode_log import write_episodes
from astuner_rl.types import Episode
from benchmarks.report import Bar, report

WAYS: Mapping[str, tuple[str, ...]] = {
    "synchronous": (),
    "ahead": ("overlap.max_staleness=1",),
    "in flight": ("overlap.max_staleness=1", "overlap.in_flight=true"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Seconds of all steps, and the work that they did."""

    wall: float
    rollout: float
    """Of it, waiting for episodes."""
    learn: float
    """Of it, learning and handing over the weights."""
    sampled: int
    trained: int
    tokens_per_update: list[int]


@dataclass
class Recorder:
    """Writes the episodes as a run does, and notes when a step was done."""

    folder: Path
    done: list[float] = field(default_factory=list)
    lines: list[Mapping[str, float | int | bool]] = field(default_factory=list)

    def record(
        self,
        step: int,
        metrics: Mapping[str, float | int | bool],
        episodes: Mapping[str, Sequence[Episode]],
    ) -> None:
        """Write and note."""
        for phase, played in episodes.items():
            path = self.folder / f"{step}-{phase.replace('/', '-')}.jsonl.gz"
            write_episodes(
                path,
                [LoggedEpisode(episode=each, masked=(None,) * len(each.calls)) for each in played],
            )
        self.lines.append(metrics)
        self.done.append(time.perf_counter())

    def save(self, state: LoopState) -> None:
        """No checkpoint is kept."""


def train(way: str, *, steps: int, groups: int) -> Run:
    """Train on a Ray of its own."""
    config = compose_experiment(
        [
            "env=gsm8k",
            "algo=grpo",
            "algo.lr=1e-12",
            f"train.steps={steps}",
            f"train.groups={groups}",
            "eval.tasks=1",
            "eval.every=0",
            "sampler.threads=1",
            "checkpoint.every=1000",
            "backbone=ray",
            "backbone.object_store_mb=100",
            "backbone.samplers.count=0",
            *WAYS[way],
        ]
    )
    environment = build_environment(config)
    pretrained = build_pretrained(config.model, environment)
    ingredients = Ingredients(
        config=config,
        environment=environment,
        pretrained=pretrained,
        renderer=build_renderer(pretrained),
        opponent=None,
    )

    async def run(deployment: Deployment, recorder: Recorder) -> None:
        # As the command does.
        gc.collect()
        gc.freeze()
        learner = deployment.learner()
        rollouts = deployment.rollouts(policy_version=0)
        loop = TrainingLoop(
            runner=rollouts.runner,
            evaluator=HeldOutEvaluator(
                runner=rollouts.runner, config=config.eval, seed=config.seed
            ),
            sampler=rollouts.sampler,
            learner=learner,
            recorder=recorder,
            checkpoints=recorder,
            train=config.train,
            checkpoint=config.checkpoint,
            overlap=config.overlap,
            seed=config.seed,
            trainable=config.env.trainable,
        )
        await deployment.watched(loop).run(LoopState(step=0, drawn=0, exact=False))
        await rollouts.close()

    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder))
        with ray_deployment(ingredients) as deployment:
            asyncio.run(run(deployment, recorder))
    timed = recorder.lines[1:]  # without the evaluation before the first step

    def total(name: str) -> float:
        return sum(line[name] for line in timed)

    return Run(
        # The last step ends with an evaluation of one task, which is not of the work compared.
        wall=recorder.done[-1] - recorder.done[0] - float(timed[-1]["time/eval_s"]),
        rollout=total("time/rollout_s"),
        learn=total("time/learn_s"),
        sampled=int(total("tokens/sampled")),
        trained=int(total("tokens/trained")),
        tokens_per_update=[int(line["tokens/sampled"]) for line in timed],
    )


def measure(way: str, *, steps: int, groups: int) -> Run:
    """Train once, led by a process of its own."""
    sizes = [f"--steps={steps}", f"--groups={groups}"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overlap", f"--way={way}", *sizes],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small version, no measurement")
    parser.add_argument("--way", choices=list(WAYS), help="train once in this way, in JSON")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--groups", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.groups, arguments.repeats = 3, 2, 1
    if arguments.way is not None:
        run = train(arguments.way, steps=arguments.steps, groups=arguments.groups)
        print(json.dumps(asdict(run)))
        return
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    for repeat in range(arguments.repeats):
        for way, measured in runs.items():
            measured.append(measure(way, steps=arguments.steps, groups=arguments.groups))
            run = measured[-1]
            print(
                f"{repeat + 1}  {way:12} {run.wall:7.2f} s, of which waiting for episodes "
                f"{run.rollout:6.2f} s, learning {run.learn:6.2f} s; {run.sampled} tokens",
                flush=True,
            )
    work = {tuple(run.tokens_per_update) for measured in runs.values() for run in measured}
    assert len(work) == 1, "the ways must sample the same tokens to be compared"
    bounds = [max(run.rollout, run.learn) for run in runs["synchronous"]]

    def over_bound(way: str) -> float:
        # The machine is not as fast in every round.
        rounds = zip(runs[way], bounds, strict=True)
        return statistics.median(run.wall / bound for run, bound in rounds)

    figures = {
        "steps": arguments.steps,
        "tokens": sum(next(iter(work))),
        "rollout_alone_s": statistics.median(run.rollout for run in runs["synchronous"]),
        "learn_alone_s": statistics.median(run.learn for run in runs["synchronous"]),
        "synchronous_over_bound": over_bound("synchronous"),
        "in_flight_over_bound": over_bound("in flight"),
        "runs": {way: [asdict(run) for run in measured] for way, measured in runs.items()},
    }
    report(
        "overlap",
        figures=figures,
        bars={"async_over_bound": Bar(over_bound("ahead"), "<=", 1.15)},
        keep=not arguments.quick,
    )


if __name__ == "__main__":
    main()

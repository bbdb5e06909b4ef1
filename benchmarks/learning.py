"""What the benchmarks of learning share: runs of the command line, measured before and after.

Every part is an ordinary run of ``astuner_rl.train``, or of the same with rewards permuted within
groups (``benchmarks.permuted_rewards``), in a process of its own on two cores. One part may be the
warm start, continued by supervised learning for as long as another part sampled and learned; how
many steps that is, a short run before it tells.

``--with sampler=vllm`` trains the parts that learn by reward with another sampler, or on another
backbone, and keeps what it measures in files of their own. The bars are the same; supervised
learning, which samples nothing, is left out.

First and last policy are measured on the same tasks of each held-out set, at temperature 1 and
greedily, by the project's evaluator with the same draws, so that their difference is paired by
task; its 95 % interval is a bootstrap over tasks. For that, the embedded sampler samples from every
policy, whatever sampled while it was trained.

A part that is done is kept in ``benchmarks/results/parts`` and taken from there by the next call,
if its settings, defaults included, and its commit are the same (a commit with changes on top is
never the same); with ``--reuse``, any commit will do. A part that was trained and not measured is
kept beside its run, and by the same rule only measured. All parts together take hours: committed,
what is there lets another machine go on.

A processor of another kind rounds otherwise, so that the tiny model that it builds is another first
policy. All parts of a seed begin with the same weights, different seeds need not. With ``--reuse``,
a seed that was begun on another kind of processor is taken as far as it was measured there: parts
that it lacks are named and not run. Seeds of one's own, ``--seeds 0 1 2 3``, can be added to it.
``--kept`` reports what is kept, of any commit, runs nothing and names what is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import torch

from astuner_gym.environment import Environment
from astuner_rl.assembly import build_environment, build_pretrained, open_policy
from astuner_rl.backbones.config import EvalConfig, TrainConfig
from astuner_rl.backbones.held_out import HeldOutEvaluator
from astuner_rl.composition import compose_experiment
from astuner_rl.config import ExperimentConfig
from astuner_rl.evaluate import of_trained_run
from astuner_rl.processor import processor
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.samplers.transformers import TransformersSamplerConfig
from astuner_rl.samplers.vllm import VllmSamplerConfig
from astuner_rl.tracing.intervals import Interval, bootstrap_interval
from astuner_rl.tracing.metrics import MetricsLine, read_metrics
from astuner_rl.types import EpisodeStatus, Group
from benchmarks.processes import family, memory_gb, peak_rss_gb
from benchmarks.random_model import save_random_model
from benchmarks.report import RESULTS, Bar, commit, report

TRAIN = "astuner_rl.train"
PERMUTED = "benchmarks.permuted_rewards"
SEEDS = (0, 1, 2)
CORES = 2
TASKS = 512
DECODINGS = {"T=1": 1.0, "greedy": 0.0}
"""Temperature by name."""
HEADLINE = "heldout T=1"
VARIANTS = ("sampler=vllm", "backbone=ray")
"""What ``--with`` takes."""
TIMED_STEPS, TIMED_EXAMPLES = 40, 2_000
"""Of the short run that tells how long a step of *sft* takes."""
REWARD_DIGITS = 4
"""Behind the point, of each task's reward: thousands of them are kept."""
RUN = "run"
"""The run's folder in that of its part."""
POLL_S = 0.2
POLLS_OF_ALL = 5
"""Polls from one look at the memory of all processes, which takes milliseconds, to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One way of training."""

    name: str
    base: str
    """Name of the result that holds the first policy's scores."""
    environment: tuple[str, ...]
    """Settings of the environment, in which first and last policy are measured."""
    algorithm: tuple[str, ...]
    """Settings of the algorithm."""
    module: str = TRAIN
    """What runs it."""
    as_long_as: str | None = None
    """Name of the part that tells how long supervised learning goes on; None for all others."""


def usual_parts(*environment: str) -> tuple[Part, Part, Part, Part]:
    """Return *grpo*, *control*, *ppo* and *sft* of an environment, all from one first policy."""
    grpo = Part(name="grpo", base="base", environment=environment, algorithm=("algo=grpo",))
    return (
        grpo,
        replace(grpo, name="control", module=PERMUTED),
        replace(grpo, name="ppo", algorithm=("algo=ppo",)),
        replace(grpo, name="sft", algorithm=("algo=sft",), as_long_as=grpo.name),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Parts, and the bars that their results are held against."""

    name: str
    about: str
    parts: tuple[Part, ...]
    bars: Callable[[Results], dict[str, Bar]]
    sft_examples: int
    """Demonstrations that supervised learning goes on with; fewer if the environment has fewer."""
    samples: int = 1
    """Episodes of each task that measure a policy at temperature 1, nine at most."""
    further: Callable[[Results], dict[str, object]] = lambda results: {}
    """Figures besides those of all benchmarks."""

    def part(self, name: str) -> Part:
        """Return the part of that name."""
        return next(part for part in self.parts if part.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large the benchmark is."""

    tasks: int
    """Held-out tasks of each set."""
    samples: int = 1
    """Episodes of each of them at temperature 1; greedily, one."""
    settings: tuple[str, ...]
    """Settings of every run, besides environment, algorithm and seed."""
    variant: tuple[str, ...] = ()
    """Further settings of the runs that learn by reward."""
    sft_examples: int
    """Demonstrations of supervised learning."""
    sft_steps: int | None
    """Its steps; None to find out how many take as long as the other part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What is kept of a finished part, of one that was only trained, or of the first policy."""

    part: str
    seed: int
    commit: str
    command: tuple[str, ...]
    """Settings of the run, all but its folder."""
    settings: str
    """Digest of all settings that count, those that the command leaves as they are included."""
    first_weights: str
    """Digest of the weights that the run began with."""
    processor: str = ""
    """Which one computed; empty where that was not noted."""
    tasks: int
    solved: dict[str, str] = field(default_factory=dict)
    """By set and decoding, ``heldout T=1``: a digit for each task, how many of its episodes solved
    it."""
    samples: int = 1
    """Episodes of each task at temperature 1."""
    rewards: dict[str, list[float]] = field(default_factory=dict)
    """By set and decoding, the reward of each task, the mean over its episodes and their agents."""
    means: dict[str, dict[str, float]] = field(default_factory=dict)
    """By set and decoding, the means of what workflow and judge measure, such as
    ``judge/illegal``."""
    minutes: float = 0.0
    """Wall-clock of the whole command, its own evaluations included."""
    train_s: float = 0.0
    """Wall-clock of sampling and learning alone."""
    peak_rss_gb: float = 0.0
    """GB of 1e9 bytes: of the run's first process, or of all its processes if that is more."""
    steps: int = 0
    load_average: list[float] = field(default_factory=list)
    """Of the machine, when the run began and when it ended."""

    def accuracy(self, name: str) -> float:
        """Share of the episodes that solved their task."""
        return statistics.fmean(self.outcomes(name))

    def outcomes(self, name: str) -> list[float]:
        """For each task, the share of its episodes that solved it."""
        episodes = _episodes_of_a_task(name.rpartition(" ")[2], self.samples)
        return [int(solved) / episodes for solved in self.solved[name]]


Results: TypeAlias = Mapping[tuple[str, int], Result]
"""By part, or first policy, and seed."""


def gain(before: Result, after: Result, name: str) -> Interval:
    """By how much accuracy rose, with the paired bootstrap interval over tasks.

    ``heldout T=1`` of 0110 before and 1110 after is a gain of 0.25: one task of four was learned.
    """
    return bootstrap_interval(
        [new - old for old, new in zip(before.outcomes(name), after.outcomes(name), strict=True)],
        seed=0,
    )


def reward_gain(before: Result, after: Result, name: str) -> Interval:
    """By how much the mean reward rose, with the paired bootstrap interval over tasks."""
    return bootstrap_interval(
        [new - old for old, new in zip(before.rewards[name], after.rewards[name], strict=True)],
        seed=0,
    )


def _episodes_of_a_task(decoding: str, samples: int) -> int:
    """Greedy replies to a task are all the same, so one is enough."""
    return samples if DECODINGS[decoding] > 0 else 1


class NotMeasuredError(Exception):
    """A part of a seed was not measured and is not to be, or cannot be here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where runs are, and their results once they are finished."""

    folder: Path
    """Of the runs."""
    results: Path
    """Of the results, one file for each part and seed."""
    commit: str
    first_weights: str
    """Digest of the weights that runs begin with."""
    reuse: bool
    """Whether a result of another commit will do, and a seed that was begun elsewhere."""
    runs_nothing: str | None = None
    """Why what is not kept is not run either; None if it is."""

    def of_seed(self, part: Part, seed: int, *, plan: Plan) -> Store:
        """Return this store with the weights that a seed began with, where that was elsewhere."""
        path = self._path(part.base, seed)
        if not (self.reuse and path.exists()):
            return self
        kept = json.loads(path.read_text("utf-8"))["first_weights"]
        there = replace(self, first_weights=kept)
        if kept != self.first_weights and self.runs_nothing is None:
            why = f"another kind of processor built its first weights, {kept}; measure it there"
            there = replace(there, runs_nothing=why)
        command = base_command(part, seed, plan=plan)
        found = there.find(part.base, seed=seed, command=command, plan=plan)
        return self if found is None else there

    def require_running(self, part: str, seed: int) -> None:
        """Raise :class:`NotMeasuredError` if what is not kept is not run either."""
        if self.runs_nothing is not None:
            raise NotMeasuredError(f"{part}, seed {seed}: not measured; {self.runs_nothing}")

    def find(self, part: str, *, seed: int, command: Sequence[str], plan: Plan) -> Result | None:
        """Return what was kept of a part with these settings and from the same first weights."""
        return self._find(self._path(part, seed), part, command, plan)

    def find_trained(
        self, part: str, *, seed: int, command: Sequence[str], plan: Plan
    ) -> Result | None:
        """Return what was kept of such a part when it had been trained."""
        return self._find(self._path_of_trained(part, seed), part, command, plan)

    def _find(self, path: Path, part: str, command: Sequence[str], plan: Plan) -> Result | None:
        if not path.exists():
            return None
        kept = json.loads(path.read_text("utf-8"))
        result = Result(**{**kept, "command": tuple(kept["command"])})
        same_settings = (
            result.command == tuple(command)
            and result.settings == digest_of_settings(part, command)
            and (result.tasks, result.samples) == (plan.tasks, plan.samples)
            and result.first_weights == self.first_weights
        )
        same_commit = result.commit == self.commit and not self.commit.endswith("-dirty")
        return result if same_settings and (same_commit or self.reuse) else None

    def keep(self, result: Result) -> Result:
        """Keep the result of a part and return it."""
        return self._keep(result, self._path(result.part, result.seed))

    def keep_trained(self, result: Result) -> Result:
        """Keep what is known of a part before it is measured, beside its run, and return it."""
        return self._keep(result, self._path_of_trained(result.part, result.seed))

    def _keep(self, result: Result, path: Path) -> Result:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(result)) + "\n", "utf-8")
        partial.rename(path)
        return result

    def folder_of(self, part: str, seed: int) -> Path:
        """Return where a part is trained."""
        return self.folder / f"{part}-s{seed}"

    def _path(self, part: str, seed: int) -> Path:
        return self.results / f"{part}-s{seed}.json"

    def _path_of_trained(self, part: str, seed: int) -> Path:
        return self.folder_of(part, seed) / "trained.json"


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that was run to its end."""

    seconds: float
    peak_rss_gb: float


def run_command(module: str, settings: Sequence[str], *, log: Path) -> Finished:
    """Run a module in a process of its own; what it prints goes to ``log``.

    Raises:
        RuntimeError: It failed.
    """
    # A user's own shell limits no threads; torch takes as many as there are cores.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    started = time.perf_counter()
    peak = 0.0
    polls = 0
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *settings],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                peak = max(peak, peak_rss_gb(process.pid))
                if polls % POLLS_OF_ALL == 0:
                    peak = max(peak, sum(map(memory_gb, family(process.pid))))
                polls += 1
                time.sleep(POLL_S)
        finally:
            process.kill()
    if process.returncode != 0:
        ending = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-15:])
        raise RuntimeError(
            f"{module} {' '.join(settings)} must end with status 0, got {process.returncode}; "
            f"mend what {log} ends with:\n{ending}"
        )
    return Finished(seconds=time.perf_counter() - started, peak_rss_gb=peak)


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured of a policy; see :class:`Result`."""

    solved: dict[str, str]
    rewards: dict[str, list[float]]
    means: dict[str, dict[str, float]]


def measured_policy(config: ExperimentConfig, *, plan: Plan) -> Measured:
    """Play the first tasks of every held-out set, greedily and at temperature 1.

    Raises:
        RuntimeError: An episode failed, so that the tasks would not be the same for all policies.
    """
    return asyncio.run(_measured_policy(config, plan=plan))


async def _measured_policy(config: ExperimentConfig, *, plan: Plan) -> Measured:
    if not isinstance(config.sampler, TransformersSamplerConfig):
        assert isinstance(config.sampler, VllmSamplerConfig)
        context = config.sampler.context_length
        config = replace(config, sampler=TransformersSamplerConfig(context_length=context))
    with closing(build_environment(config)) as environment:
        return await _measured_in(environment, config, plan=plan)


async def _measured_in(
    environment: Environment, config: ExperimentConfig, *, plan: Plan
) -> Measured:
    opened = open_policy(config, environment)
    measured = Measured({}, {}, {})
    try:
        runner = EpisodeRunner(environment=environment, policy=opened.policy, config=config.rollout)
        for decoding, temperature in DECODINGS.items():
            evaluator = HeldOutEvaluator(
                runner=runner,
                config=EvalConfig(
                    tasks=plan.tasks,
                    samples=_episodes_of_a_task(decoding, plan.samples),
                    temperature=temperature,
                ),
                seed=config.seed,
            )
            # The step is a part of every draw's name; one step for all pairs the draws.
            for name, evaluation in (await evaluator.run(step=0)).items():
                measured.solved[f"{name} {decoding}"] = _successes(evaluation.groups)
                measured.rewards[f"{name} {decoding}"] = [
                    round(
                        statistics.fmean(
                            reward
                            for episode in group.episodes
                            for reward in episode.rewards.values()
                        ),
                        REWARD_DIGITS,
                    )
                    for group in evaluation.groups
                ]
                measured.means[f"{name} {decoding}"] = {
                    figure: interval.mean for figure, interval in evaluation.figures().items()
                }
    finally:
        await opened.close()
    return measured


def _successes(groups: Sequence[Group]) -> str:
    for group in groups:
        for episode in group.episodes:
            if episode.status is EpisodeStatus.FAILED:
                raise RuntimeError(f"{episode.task_id}: no episode may fail, got {episode.reason}")
    return "".join(str(sum(episode.success for episode in group.episodes)) for group in groups)


def digest_of_first_weights(settings: Sequence[str]) -> str:
    """Return a digest of the weights that a run with these settings begins with.

    The tiny model is built if need be.
    """
    config = compose_experiment(settings)
    with closing(build_environment(config)) as environment:
        weights = build_pretrained(config.model, environment).model.state_dict()
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def digest_of_settings(part: str, command: Sequence[str]) -> str:
    """Return a digest of what a command's settings compose to.

    So a part is measured anew where a default has changed. How a policy is trained does not count
    for what is measured of the first one, whose name is *base*.
    """
    config = compose_experiment(command)
    if part.startswith("base"):
        config = replace(config, algo=None, train=TrainConfig())
    return hashlib.sha256(repr(config).encode()).hexdigest()[:16]


def first_policy(part: Part, seed: int, *, plan: Plan, store: Store) -> Result:
    """The scores of the policy that a run starts from."""
    command = base_command(part, seed, plan=plan)
    found = store.find(part.base, seed=seed, command=command, plan=plan)
    if found is not None:
        return found
    store.require_running(part.base, seed)
    print(f"{part.base}, seed {seed}: measuring", flush=True)
    measured = measured_policy(compose_experiment(command), plan=plan)
    return store.keep(
        Result(
            part=part.base,
            seed=seed,
            commit=store.commit,
            command=command,
            settings=digest_of_settings(part.base, command),
            first_weights=store.first_weights,
            processor=processor(),
            tasks=plan.tasks,
            samples=plan.samples,
            solved=measured.solved,
            rewards=measured.rewards,
            means=measured.means,
        )
    )


def trained_policy(
    part: Part, seed: int, command: Sequence[str], *, plan: Plan, store: Store
) -> Result:
    """Train as the settings say and measure the last policy, unless that was done before."""
    found = store.find(part.name, seed=seed, command=command, plan=plan)
    if found is not None:
        print(f"{part.name}, seed {seed}: kept from {found.commit}")
        return found
    store.require_running(part.name, seed)
    trained = store.find_trained(part.name, seed=seed, command=command, plan=plan)
    if trained is None:
        trained = store.keep_trained(_trained(part, seed, command, plan=plan, store=store))
    print(f"{part.name}, seed {seed}: measuring", flush=True)
    run = store.folder_of(part.name, seed) / RUN
    measured = measured_policy(of_trained_run(compose_experiment([f"run.resume={run}"])), plan=plan)
    return store.keep(
        replace(trained, solved=measured.solved, rewards=measured.rewards, means=measured.means)
    )


def _trained(part: Part, seed: int, command: Sequence[str], *, plan: Plan, store: Store) -> Result:
    """Train as the settings say."""
    print(f"{part.name}, seed {seed}: training", flush=True)
    folder = fresh_folder(store.folder_of(part.name, seed))
    load_before = os.getloadavg()[0]
    finished = run_command(
        part.module, [*command, f"run.dir={folder / RUN}"], log=folder / "output.txt"
    )
    load_after = os.getloadavg()[0]
    lines = read_metrics(folder / RUN / "metrics.jsonl")
    return Result(
        part=part.name,
        seed=seed,
        commit=store.commit,
        command=tuple(command),
        settings=digest_of_settings(part.name, command),
        first_weights=store.first_weights,
        processor=processor(),
        tasks=plan.tasks,
        samples=plan.samples,
        minutes=finished.seconds / 60,
        train_s=training_seconds(lines),
        peak_rss_gb=finished.peak_rss_gb,
        steps=lines[-1].step,
        load_average=[load_before, load_after],
    )


def base_command(part: Part, seed: int, *, plan: Plan) -> tuple[str, ...]:
    """Settings with which the policy is measured that a part starts from."""
    return (*part.environment, f"seed={seed}", *plan.settings)


def command_of(part: Part, seed: int, *, plan: Plan) -> list[str]:
    """Settings of a part."""
    return [*part.environment, *part.algorithm, f"seed={seed}", *plan.settings, *plan.variant]


def sft_command(part: Part, seed: int, *, steps: int, examples: int, plan: Plan) -> list[str]:
    """Settings of supervised learning; it measures nothing on its way, where others do."""
    return [
        *command_of(part, seed, plan=plan),
        f"algo.examples={examples}",
        f"train.steps={steps}",
        f"checkpoint.every={steps}",
        "eval.every=0",
    ]


def sft_policy(part: Part, seed: int, *, seconds: float, plan: Plan, store: Store) -> Result:
    """Continue the warm start by supervised learning for about so many seconds."""
    steps = plan.sft_steps or _steps_in(part, seconds, seed=seed, plan=plan, store=store)
    command = sft_command(part, seed, steps=steps, examples=plan.sft_examples, plan=plan)
    return trained_policy(part, seed, command, plan=plan, store=store)


def _steps_in(part: Part, seconds: float, *, seed: int, plan: Plan, store: Store) -> int:
    """How many steps take so many seconds, by those of a short run, which is kept."""
    kept = store.results / f"{part.name}-s{seed}-timing.json"
    if kept.exists():
        timing = json.loads(kept.read_text("utf-8"))
        if timing["seconds"] == seconds:
            return int(timing["steps"])
    store.require_running(part.name, seed)
    print(f"{part.name}, seed {seed}: timing its steps", flush=True)
    folder = fresh_folder(store.folder / f"{part.name}-s{seed}-timing")
    run = folder / RUN
    command = sft_command(part, seed, steps=TIMED_STEPS, examples=TIMED_EXAMPLES, plan=plan)
    run_command(
        part.module, [*command, "eval.tasks=1", f"run.dir={run}"], log=folder / "output.txt"
    )
    lines = read_metrics(run / "metrics.jsonl")[1:]
    steps = max(1, round(seconds * len(lines) / training_seconds(lines)))
    kept.write_text(json.dumps({"seconds": seconds, "steps": steps}) + "\n", "utf-8")
    return steps


def training_seconds(lines: Sequence[MetricsLine]) -> float:
    """Wall-clock of sampling and learning, without evaluations and checkpoints."""
    return sum(line.values.get("time/step_s") or 0.0 for line in lines)


def fresh_folder(folder: Path) -> Path:
    """Make a folder, without what an unfinished call left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def measure(
    benchmark: Benchmark, parts: Sequence[str], seeds: Sequence[int], *, plan: Plan, store: Store
) -> Results:
    """Results by part and seed; those that are kept already are not made again.

    What is neither kept nor to be run is left out.
    """
    results: dict[tuple[str, int], Result] = {}
    wanted = [(part, seed) for part in benchmark.parts if part.name in parts for seed in seeds]
    for part, seed in wanted:
        of_seed = store.of_seed(part, seed, plan=plan)
        with _said_where_not_measured():
            results[part.base, seed] = first_policy(part, seed, plan=plan, store=of_seed)
    for part, seed in wanted:
        if (part.base, seed) not in results:
            continue
        of_seed = store.of_seed(part, seed, plan=plan)
        with _said_where_not_measured():
            result = _part_of_seed(benchmark, part, seed, results, plan=plan, store=of_seed)
            results[part.name, seed] = result
            print_result(results[part.base, seed], result)
    return results


@contextmanager
def _said_where_not_measured() -> Iterator[None]:
    try:
        yield
    except NotMeasuredError as error:
        print(error)


def _part_of_seed(
    benchmark: Benchmark, part: Part, seed: int, results: Results, *, plan: Plan, store: Store
) -> Result:
    if part.as_long_as is None:
        command = command_of(part, seed, plan=plan)
        return trained_policy(part, seed, command, plan=plan, store=store)
    other = benchmark.part(part.as_long_as)
    as_long = results.get((other.name, seed)) or trained_policy(
        other, seed, command_of(other, seed, plan=plan), plan=plan, store=store
    )
    return sft_policy(part, seed, seconds=as_long.train_s, plan=plan, store=store)


def not_measured(
    benchmark: Benchmark, parts: Sequence[str], seeds: Sequence[int], results: Results
) -> list[str]:
    """Return which of the parts that were asked for are missing, by part and seed."""
    return [
        f"{part.name}-s{seed}"
        for part in benchmark.parts
        for seed in seeds
        if part.name in parts and (part.name, seed) not in results
    ]


def print_result(before: Result, after: Result) -> None:
    """Print what a run came to."""
    load = " to ".join(f"{value:.1f}" for value in after.load_average)
    print(
        f"\n{after.part}, seed {after.seed}: {after.steps} steps, {after.minutes:.1f} min "
        f"({after.train_s / 60:.1f} of sampling and learning), "
        f"{after.peak_rss_gb:.2f} GB, load {load}"
    )
    print(f"  {'set, decoding':16}{'before':>8}{'after':>8}{'gain':>8}   95 % interval")
    for name in after.solved:
        interval = gain(before, after, name)
        print(
            f"  {name:16}{before.accuracy(name):8.3f}{after.accuracy(name):8.3f}"
            f"{interval.mean:+8.3f}   {interval.low:+.3f} to {interval.high:+.3f}"
        )


def figures(benchmark: Benchmark, results: Results) -> dict[str, object]:
    """Everything measured, by part, seed, set and decoding."""
    return {
        f"{part.name}-s{seed}": {
            "commit": after.commit,
            "first_weights": after.first_weights,
            "processor": after.processor,
            "steps": after.steps,
            "minutes": after.minutes,
            "sampling_and_learning_s": after.train_s,
            "peak_rss_gb": after.peak_rss_gb,
            "load_average": after.load_average,
            "tasks": after.tasks,
            "samples_at_temperature_1": after.samples,
            "scores": {
                name: {
                    "before": results[part.base, seed].accuracy(name),
                    "after": after.accuracy(name),
                    "means_before": results[part.base, seed].means[name],
                    "means_after": after.means[name],
                    "gain": asdict(gain(results[part.base, seed], after, name)),
                    **_reward_figures(results[part.base, seed], after, name),
                }
                for name in after.solved
            },
        }
        for part in benchmark.parts
        for (name, seed), after in results.items()
        if name == part.name
    }


def _reward_figures(before: Result, after: Result, name: str) -> dict[str, object]:
    if not (before.rewards and after.rewards):  # kept from before they were measured
        return {}
    return {
        "reward_before": asdict(bootstrap_interval(before.rewards[name], seed=0)),
        "reward_after": asdict(bootstrap_interval(after.rewards[name], seed=0)),
        "reward_gain": asdict(reward_gain(before, after, name)),
    }


def gains(results: Results, part: Part, *, measured: str = HEADLINE) -> list[float]:
    """By how much a part raised accuracy, one figure a seed."""
    return [
        gain(results[part.base, seed], after, measured).mean
        for (name, seed), after in results.items()
        if name == part.name
    ]


def trained(results: Results, *parts: Part) -> list[Result]:
    """The results of some parts, all seeds."""
    names = [part.name for part in parts]
    return [after for (name, _), after in results.items() if name in names]


def quick_plan(folder: Path, *, environment: Sequence[str]) -> Plan:
    """A plan that only shows that every part runs."""
    model = folder / "random-model"
    save_random_model(model, environment=environment)
    return Plan(
        tasks=4,
        settings=(
            "model=hf",
            f"model.path={model}",
            "sampler.context_length=384",
            "rollout.max_tokens=8",
            "train.groups=2",
            "train.group_size=2",
            "train.steps=2",
            "eval.tasks=2",
        ),
        sft_examples=50,
        sft_steps=2,
    )


def part_names(benchmark: Benchmark, variant: Sequence[str]) -> list[str]:
    """Return the parts that are measured: with other settings those that learn by reward."""
    return [part.name for part in benchmark.parts if part.as_long_as is None or not variant]


def variant_name(benchmark: Benchmark, variant: Sequence[str]) -> str:
    """Name a benchmark with other settings: ``learning_gsm8k_vllm`` is with ``sampler=vllm``."""
    return "_".join([benchmark.name, *(setting.partition("=")[2] for setting in variant)])


def main(benchmark: Benchmark) -> None:
    """Measure what is asked for and not kept yet, and report."""
    parser = argparse.ArgumentParser(description=benchmark.about)
    parser.add_argument("--quick", action="store_true", help="a small version, no measurement")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--part", nargs="+", choices=[*part_names(benchmark, ()), "all"], default=["all"]
    )
    parser.add_argument("--with", nargs="+", choices=VARIANTS, default=[], dest="variant")
    parser.add_argument("--work", type=Path, help="folder of the runs; one under runs/")
    parser.add_argument(
        "--reuse", action="store_true", help="take results of other commits and processors too"
    )
    parser.add_argument(
        "--kept", action="store_true", help="--reuse, and run nothing that is not kept"
    )
    parser.add_argument("settings", nargs="*", help="settings of every run; no measurement then")
    options = parser.parse_intermixed_args()
    # AgentScope warns of every episode that reaches its limit of replies.
    logging.getLogger("as").setLevel(logging.ERROR)
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    name = variant_name(benchmark, options.variant)
    work = (options.work or Path("runs/benchmarks") / name).absolute()
    names = part_names(benchmark, options.variant)
    parts = names if "all" in options.part else options.part
    if not set(parts) <= set(names):
        parser.error(f"--part must be among {', '.join(names)} beside --with")
    if options.quick:
        work = fresh_folder(work / "quick")
        plan = quick_plan(work, environment=benchmark.parts[0].environment)
        plan = replace(plan, variant=tuple(options.variant))
        seeds = options.seeds[:1]
        print("--quick: a model of random weights and two steps; this is no measurement")
    else:
        plan = Plan(
            tasks=TASKS,
            samples=benchmark.samples,
            settings=tuple(options.settings),
            variant=tuple(options.variant),
            sft_examples=benchmark.sft_examples,
            sft_steps=None,
        )
        seeds = options.seeds
    measurement = not options.quick and not options.settings
    store = Store(
        folder=work,
        results=RESULTS / "parts" / name if measurement else work,
        commit=commit(),
        first_weights=digest_of_first_weights([*benchmark.parts[0].environment, *plan.settings]),
        reuse=options.reuse or options.kept,
        runs_nothing="--kept was asked for" if options.kept else None,
    )
    results = measure(benchmark, parts, seeds, plan=plan, store=store)
    enough = set(names) <= set(parts) and set(SEEDS) <= set(seeds)
    report(
        name,
        figures=figures(benchmark, results)
        | benchmark.further(results)
        | {"not_measured": not_measured(benchmark, parts, seeds, results)},
        bars=benchmark.bars(results),
        keep=enough and measurement,
    )

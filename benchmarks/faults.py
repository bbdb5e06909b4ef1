"""Whether runs survive what dies: kills at random moments, and what became of every task.

Toy runs (``benchmarks.toy_run``) of several kinds are killed by SIGKILL and gone on with as a user
would: what Ray replaces is left to it, and a run that has ended is resumed at once. The parts of a
run are hit in turn: the *trainer*, which is the whole process group of the command, a *sampler*, a
*rollout worker*, a *learner rank*, and the engine of vLLM.

The kills of a kind of run are a Poisson process over the wall-clock of all its launches, start-up
and recovery included: given their number, the moments are independent and uniform. A moment at
which its victim is not there, such as an actor before it has started, is passed over. A phase that
none of them hit, as it takes milliseconds, is hit afterwards by a kill that waits for it.

When a run has come to its end, ``benchmarks.run_audit`` looks through its log and its checkpoints;
these are verified after each death, too. A run of a synchronous kind must have the weights, figures
and episodes of one that nothing was done to, bit for bit. Any other is trained again from its log
by ``astuner replay``, which must end in its weights.

Recovery is the time from a kill until the next step was done.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random

from benchmarks.killed_runs import Hit, KilledRuns, Kind, Reference, Run, Verdict
from benchmarks.phase_log import PHASES
from benchmarks.report import Bar, report
from benchmarks.run_audit import Audit
from benchmarks.toy_run import make_toy_run
from benchmarks.victims import TRAINER

SOUND = Audit(tasks_lost=0, tasks_doubled=0, corrupt_checkpoints=0)
ACTORS = (TRAINER, "sampler", "rollout worker", "learner rank")
ON_RAY = (
    "backbone=ray",
    "backbone.object_store_mb=100",
    # Logical: the machine has what it has.
    *(f"backbone.{actors}.cpus=0.1" for actors in ("samplers", "rollouts", "learner")),
    "backbone.rollouts.count=1",
)
KINDS = (
    Kind(name="local", settings=(), victims=(TRAINER,), exact=True, share=8),
    Kind(
        name="ray",
        settings=(*ON_RAY, "backbone.learner.ranks=2"),
        victims=ACTORS,
        exact=True,
        share=20,
        needs=("ray",),
    ),
    Kind(
        name="ray asynchronous",
        settings=(
            *ON_RAY,
            "backbone.samplers.count=2",
            "overlap.max_staleness=1",
            "overlap.in_flight=true",
        ),
        victims=ACTORS,
        exact=False,
        share=16,
        needs=("ray",),
    ),
    Kind(
        name="vllm",
        settings=("sampler=vllm", "sampler.cache_gib=0.1"),
        victims=(TRAINER, "vLLM engine"),
        exact=False,
        share=6,
        needs=("vllm",),
    ),
)
QUICK_KIND = "ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All runs of a kind."""

    kind: Kind
    reference: Reference
    runs: Sequence[Run]
    """Those that were hit."""
    verdicts: Sequence[Verdict]
    """By run."""
    passed_over: int
    """Moments at which the victim was not there."""

    @property
    def hits(self) -> list[Hit]:
        """All kills."""
        return [hit for run in self.runs for hit in run.hits]

    def figures(self) -> dict[str, object]:
        """Return them in JSON types."""
        return {
            "unbroken_s": self.reference.wall_s,
            "start_s": self.reference.start_s,
            "step_s": self.reference.step_s,
            "share_of_phase": dict(self.reference.share),
            "runs": len(self.runs),
            "launches": sum(run.launches for run in self.runs),
            "passed_over": self.passed_over,
            "processes_left": sum(verdict.processes_left for verdict in self.verdicts),
            "wrong": [verdict.failure for verdict in self.verdicts if verdict.failure],
            "launches_that_failed": sorted({each for run in self.runs for each in run.failures}),
            "recovery_s": {
                victim: spread([hit.recovery_s for hit in self.hits if hit.victim == victim])
                for victim in self.kind.victims
            },
            "kills": [
                {
                    "victim": hit.victim,
                    "phase": hit.phase,
                    "step": hit.step,
                    "after_s": round(hit.after_s, 3),
                    "recovery_s": round(hit.recovery_s, 3),
                    "aimed": hit.aimed,
                }
                for hit in self.hits
            ],
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return what is told of times; nothing of none."""
    return {"median": statistics.median(values), "max": max(values)} if values else {}


def bars(outcomes: Sequence[Outcome], *, kills: int) -> dict[str, Bar]:
    """Return the goals; NaN, which meets none, where there was nothing that could tell."""
    hits = [hit for outcome in outcomes for hit in outcome.hits]
    audits = [verdict.audit for outcome in outcomes for verdict in outcome.verdicts]

    def failed(*, exact: bool) -> float:
        verdicts = [
            verdict
            for outcome in outcomes
            if outcome.kind.exact is exact
            for verdict in outcome.verdicts
        ]
        return sum(bool(each.failure) for each in verdicts) if verdicts else float("nan")

    return {
        "kills": Bar(sum(not hit.aimed for hit in hits), ">=", kills),
        "phases_missed": Bar(len(set(PHASES) - {hit.phase for hit in hits}), "<=", 0),
        "tasks_lost": Bar(sum(each.tasks_lost for each in audits), "<=", 0),
        "tasks_doubled": Bar(sum(each.tasks_doubled for each in audits), "<=", 0),
        "corrupt_checkpoints": Bar(sum(each.corrupt_checkpoints for each in audits), "<=", 0),
        "exact_runs_differing": Bar(failed(exact=True), "<=", 0),
        "replays_differing": Bar(failed(exact=False), "<=", 0),
    }


def divided(kills: int, kinds: Sequence[Kind]) -> list[int]:
    """Return how many kills each kind is given, by their shares; the first have what is over."""
    total = sum(kind.share for kind in kinds)
    counts = [kills * kind.share // total for kind in kinds]
    over = kills - sum(counts)
    return [count + (index < over) for index, count in enumerate(counts)]


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print what was hit in which phase, how long runs needed to go on, and what is wrong."""
    hits = [hit for outcome in outcomes for hit in outcome.hits]
    victims = list(dict.fromkeys(hit.victim for hit in hits))
    print()
    print(f"{'phase':15}" + "".join(f"{victim:>16}" for victim in victims) + f"{'aimed at':>10}")
    for phase in PHASES:
        of_phase = [hit for hit in hits if hit.phase == phase]
        counts = Counter(hit.victim for hit in of_phase)
        columns = "".join(f"{counts[victim]:16}" for victim in victims)
        print(f"{phase:15}{columns}{sum(hit.aimed for hit in of_phase):10}")
    print()
    for outcome in outcomes:
        reference = outcome.reference
        print(
            f"{outcome.kind.name}: {len(outcome.runs)} runs; unbroken one takes "
            f"{reference.wall_s:.1f} s, its start {reference.start_s:.1f} s, "
            f"a step {reference.step_s:.2f} s"
        )
        for victim in outcome.kind.victims:
            recovery = [hit.recovery_s for hit in outcome.hits if hit.victim == victim]
            if recovery:
                print(
                    f"  {victim:15}{len(recovery):4} kills, a step done after "
                    f"{statistics.median(recovery):.1f} s, at most {max(recovery):.1f} s"
                )
        for run, verdict in zip(outcome.runs, outcome.verdicts, strict=True):
            if verdict.failure or verdict.audit != SOUND or verdict.processes_left:
                print(f"  {run.files.name}: {verdict}")


def measure(
    kinds: Sequence[Kind], *, kills: int, steps: int, seed: int, aim: bool, folder: Path
) -> list[Outcome]:
    """Kill runs of each kind, and say what became of them.

    Args:
        kinds: Of runs.
        kills: At moments that are not aimed, of all kinds.
        steps: Of a run.
        seed: Of the moments.
        aim: Whether phases that were missed are hit by kills more, in runs of the first kind.
        folder: Where everything is written.
    """
    (folder / "toy").mkdir()
    toy = make_toy_run(folder / "toy")
    tried = []
    for kind, count in zip(kinds, divided(kills, kinds), strict=True):
        runs = KilledRuns(
            kind,
            toy,
            steps=steps,
            folder=folder / kind.name.replace(" ", "-"),
            random=Random(f"kills/{seed}/{kind.name}"),
        )
        wall = runs.reference.wall_s
        print(f"{kind.name:18} {'no kill':15} {wall:6.1f} s", flush=True)
        # Half the launches of a run on Ray do not outlive a kill, and must come to do something.
        runs.rain(count, every_s=0.7 * wall)
        tried.append(runs)
    if aim:
        hit = {hit.phase for runs in tried for run in runs.runs for hit in run.hits}
        for phase in PHASES:
            if phase not in hit:
                tried[0].aim(phase)
    outcomes = []
    for runs in tried:
        order = runs.order()
        outcomes.append(
            Outcome(
                kind=runs.kind,
                reference=runs.reference,
                runs=runs.runs,
                verdicts=[runs.verdict(run, order) for run in runs.runs],
                passed_over=runs.passed_over,
            )
        )
    return outcomes


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4 kills of one kind, no measurement")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=96, help="of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    names = [kind.name for kind in KINDS]
    parser.add_argument("--kinds", nargs="+", choices=names, default=names, help="of runs")
    parser.add_argument("--folder", type=Path, help="where to keep the runs; new")
    arguments = parser.parse_args()
    # Of every process that is started: one thread, whatever computes.
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    absent = {package for package in ("ray", "vllm") if find_spec(package) is None}
    left_out = {kind.name: sorted(absent & {*kind.needs}) for kind in KINDS}
    kinds = [kind for kind in KINDS if kind.name in arguments.kinds and not left_out[kind.name]]
    if arguments.quick:
        arguments.kills, arguments.steps = 4, 6
        kinds = [kind for kind in kinds if kind.name == QUICK_KIND] or kinds[:1]
    for name, packages in left_out.items():
        if packages:
            print(f"left out: {name}, as {packages[0]} is not installed here")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        # What Ray writes goes with the runs; its sockets need a short path.
        os.environ["RAY_TMPDIR"] = temporary
        folder = arguments.folder or Path(temporary) / "runs"
        folder.mkdir(parents=True)
        outcomes = measure(
            kinds,
            kills=arguments.kills,
            steps=arguments.steps,
            seed=arguments.seed,
            aim=not arguments.quick,
            folder=folder.absolute(),
        )
    print_outcomes(outcomes)
    report(
        "faults",
        figures={
            "minutes": (time.monotonic() - started) / 60,
            "steps_of_a_run": arguments.steps,
            "left_out": {name: packages for name, packages in left_out.items() if packages},
            "kinds": {outcome.kind.name: outcome.figures() for outcome in outcomes},
        },
        bars=bars(outcomes, kills=arguments.kills),
        keep=not arguments.quick and arguments.kinds == names,
    )


if __name__ == "__main__":
    main()

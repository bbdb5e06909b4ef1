"""Toy runs on which kills rain, and which are gone on with until they come to their end."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle, pairwise
from pathlib import Path
from random import Random

from astuner_rl.assembly import build_environment
from astuner_rl.composition import compose_experiment
from benchmarks.phase_log import PHASES, START_UP, Entry, read_phases
from benchmarks.run_audit import Audit, Order, audit, damaged_checkpoints, difference, order_of
from benchmarks.toy_run import ToyRun
from benchmarks.victims import TRAINER, Process, descendants, holding

HANGS_S = 600.0
"""Seconds without a new phase after which a run is held to hang."""
ENDS_S = 30.0
"""Seconds within which every process of a run must have ended that was killed."""
_KILLED, _FAILED = -signal.SIGKILL, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A way to run."""

    name: str
    settings: tuple[str, ...]
    victims: tuple[str, ...]
    """Parts that are killed, in turn."""
    exact: bool
    """Whether a run must be that of its seed; otherwise it must follow from its log."""
    share: int
    """Of 50 kills."""
    needs: tuple[str, ...] = ()
    """Packages."""


@dataclass(slots=True, kw_only=True)
class Hit:
    """A kill. What it hit is known when the run is over."""

    victim: str
    time: float
    """Seconds since the epoch."""
    after_s: float
    """From the launch that it hit."""
    aimed: bool = False
    """Whether it waited for a phase."""
    phase: str = START_UP
    step: int = 0
    recovery_s: float = 0.0
    """Until the next step was done, or the run was over."""


@dataclass(slots=True, kw_only=True)
class Run:
    """A run, launch by launch."""

    files: Path
    """Where the logs of its launches are."""
    launches: int = 0
    hits: list[Hit] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What was said last by launches that a kill made fail."""
    processes: set[Process] = field(default_factory=set)
    """All that were below a trainer when something was killed."""
    damaged: set[str] = field(default_factory=set)
    """Checkpoints that were not whole when a launch had ended."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    ended: float = 0.0

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.files / "run"

    def log(self, launch: int) -> Path:
        """Return where a launch writes its phases."""
        return self.files / f"phases-{launch:03d}.log"

    def said(self, launch: int) -> Path:
        """Return where a launch writes what it says."""
        return self.files / f"said-{launch:03d}.log"

    def entries(self) -> list[Entry]:
        """Return the phases of all launches."""
        logs = [self.log(number) for number in range(1, self.launches + 1)]
        return [entry for log in logs for entry in read_phases(log)]

    def last_words(self) -> str:
        """Return the end of what the last launch said."""
        return self.said(self.launches).read_text(encoding="utf-8", errors="replace")[-2000:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A run that nothing is done to."""

    run: Run
    wall_s: float
    start_s: float
    """Of it, before the first phase."""
    step_s: float
    """Median from step to step."""
    share: Mapping[str, float]
    """Of the wall-clock, by phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a run."""

    audit: Audit
    failure: str
    """How it differs from the reference, or what ``astuner replay`` says; empty if all is well."""
    processes_left: int
    """Processes that were still there ``ENDS_S`` after all was over."""


class KilledRuns:
    """Runs of one kind, one after the other.

    Args:
        kind: Of runs.
        toy: What they train.
        steps: Of each run.
        folder: Where they lie; new.
        random: Draws the moments, and one of several processes.
    """

    def __init__(
        self, kind: Kind, toy: ToyRun, *, steps: int, folder: Path, random: Random
    ) -> None:
        folder.mkdir()
        self.kind = kind
        self.runs: list[Run] = []
        self.passed_over = 0
        """Moments at which the victim was not there."""
        self._settings = toy.settings(
            f"train.steps={steps}",
            "eval.every=4",
            "eval.tasks=1",
            "checkpoint.every=2",
            *kind.settings,
        )
        self._folder = folder
        self._random = random
        self._reference = self._unbroken()

    @property
    def reference(self) -> Reference:
        """A run of the kind without a kill."""
        return self._reference

    def order(self) -> Order:
        """Return what every run is to train."""
        config = compose_experiment(self._settings)
        return order_of(
            build_environment(config).train_tasks,
            seed=config.seed,
            steps=config.train.steps,
            groups=config.train.groups,
            group_size=config.train.group_size,
        )

    def rain(self, kills: int, *, every_s: float) -> None:
        """Kill at random moments, and let the last run come to its end.

        Args:
            kills: How many.
            every_s: Mean seconds from moment to moment.
        """
        victims = cycle(self.kind.victims)
        victim, left = next(victims), kills
        wait = self._random.expovariate(1 / every_s)
        while left > 0:
            run = self._new_run()
            over = False
            while not over:
                with self._launched(run) as process:
                    launched = time.time()
                    while left > 0:
                        began = time.monotonic()
                        if _ends_within(process, wait):
                            wait = max(0.0, wait - (time.monotonic() - began))
                            break
                        wait = self._random.expovariate(1 / every_s)
                        if self._strike(run, process, victim, launched=launched):
                            victim, left = next(victims), left - 1
                        else:
                            self.passed_over += 1
                    over = self._is_over(run, process, launched=launched)
            self._close(run)

    def aim(self, phase: str) -> None:
        """Kill the trainer of one run as a phase begins, in a step drawn from the reference's."""
        entries = [entry for entry in self._reference.run.entries() if entry.phase == phase]
        step = self._random.choice(entries).step
        run = self._new_run()
        launched = time.time()
        with self._launched(run, f"--die-in={phase} {step}") as process:
            process.wait(HANGS_S)
            died = run.entries()[-1].time
            run.hits.append(Hit(victim=TRAINER, time=died, after_s=died - launched, aimed=True))
            over = self._is_over(run, process, launched=launched)
        assert not over, f"no phase {phase} {step} came"
        while not over:
            with self._launched(run) as process:
                over = self._is_over(run, process, launched=time.time())
        self._close(run)

    def verdict(self, run: Run, order: Order) -> Verdict:
        """Return what became of a run that has come to its end."""
        found = audit(run.folder, order)
        found = replace(found, corrupt_checkpoints=found.corrupt_checkpoints + len(run.damaged))
        if self.kind.exact:
            failure = difference(run.folder, self._reference.run.folder)
        else:
            failure = _replay_failure(run.folder)
        deadline = time.monotonic() + ENDS_S
        while any(each.alive for each in run.processes) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = [each for each in run.processes if each.alive]
        for each in left:
            os.kill(each.pid, signal.SIGKILL)
        return Verdict(audit=found, failure=failure, processes_left=len(left))

    def _unbroken(self) -> Reference:
        run = self._new_run()
        with self._launched(run) as process:
            over = self._is_over(run, process, launched=run.started)
        assert over
        self._close(run)
        self.runs.clear()
        entries = run.entries()
        spent: dict[str, float] = defaultdict(float, {START_UP: entries[0].time - run.started})
        ends = [*(entry.time for entry in entries[1:]), run.ended]
        for entry, end in zip(entries, ends, strict=True):
            spent[entry.phase] += end - entry.time
        recorded = [entry.time for entry in entries if entry.phase == "record"]
        steps = [after - before for before, after in pairwise(recorded)]
        wall = run.ended - run.started
        return Reference(
            run=run,
            wall_s=wall,
            start_s=spent[START_UP],
            step_s=statistics.median(steps),
            share={phase: spent[phase] / wall for phase in PHASES},
        )

    def _new_run(self) -> Run:
        files = self._folder / f"{len(list(self._folder.iterdir())):02d}"
        files.mkdir()
        run = Run(files=files)
        self.runs.append(run)
        return run

    @contextmanager
    def _launched(self, run: Run, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start or go on with a run, in a process group that ends with the context."""
        arguments = [f"run.resume={run.folder}"]
        if not (run.folder / "config.yaml").exists():
            # Killed before there was anything to go on with.
            shutil.rmtree(run.folder, ignore_errors=True)
            arguments = [*self._settings, f"run.dir={run.folder}"]
        run.launches += 1
        log = str(run.log(run.launches))
        with run.said(run.launches).open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.phase_log", log, *options, *arguments],
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _strike(
        self, run: Run, process: subprocess.Popen[bytes], victim: str, *, launched: float
    ) -> bool:
        """Kill, and return whether there was anybody to kill."""
        below = descendants(process.pid)
        now = time.time()
        if victim == TRAINER:
            os.killpg(process.pid, signal.SIGKILL)
            if process.wait() != _KILLED:
                return False  # it had ended just before
        else:
            alike = holding(victim, below)
            if not alike:
                return False
            try:
                os.kill(self._random.choice(alike).pid, signal.SIGKILL)
            except ProcessLookupError:
                return False
        run.processes |= set(below)
        run.hits.append(Hit(victim=victim, time=now, after_s=now - launched))
        print(f"{self.kind.name:18} {victim:15} {now - launched:6.1f} s after launch", flush=True)
        return True

    def _is_over(self, run: Run, process: subprocess.Popen[bytes], *, launched: float) -> bool:
        """Wait for a launch, and return whether the run has come to its end.

        Raises:
            RuntimeError: It hangs, or has failed though nothing was done to it.
        """
        seen = -1
        while not _ends_within(process, HANGS_S):
            written = len(read_phases(run.log(run.launches)))
            if written == seen:
                raise RuntimeError(f"{run.folder} hangs; it said:\n{run.last_words()}")
            seen = written
        status = process.returncode
        hit = any(hit.time >= launched for hit in run.hits)
        if status != 0 and not (hit and status in (_KILLED, _FAILED)):
            raise RuntimeError(f"{run.folder} ended with {status}; it said:\n{run.last_words()}")
        if status == _FAILED:
            last = run.last_words().strip().splitlines()[-1]
            run.failures.append(last.replace(str(run.folder), "<run>"))
        run.damaged |= {str(path) for path in damaged_checkpoints(run.folder / "checkpoints")}
        return status == 0

    def _close(self, run: Run) -> None:
        """Tell of each kill what it hit, and how long the run needed to go on."""
        run.ended = time.time()
        describe_hits(run.hits, run.entries(), ended=run.ended)


def describe_hits(hits: list[Hit], entries: list[Entry], *, ended: float) -> None:
    """Say of each kill in which phase it came, and when the next step was done.

    Args:
        hits: Of one run.
        entries: Of all its launches, in their order.
        ended: When the run was over.
    """
    for hit in hits:
        launched = hit.time - hit.after_s
        before = [entry for entry in entries if entry.time <= hit.time]
        of_launch = [entry for entry in before if entry.time >= launched]
        if of_launch:
            hit.phase, hit.step = of_launch[-1].phase, of_launch[-1].step
        done = max((entry.step for entry in before if entry.phase == "record"), default=-1)
        later = (
            entry.time
            for entry in entries
            if entry.time > hit.time and entry.phase == "record" and entry.step > done
        )
        hit.recovery_s = next(later, ended) - hit.time


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _replay_failure(folder: Path) -> str:
    """Return what ``astuner replay`` says if the weights do not follow from the log."""
    done = subprocess.run(
        [sys.executable, "-m", "astuner_rl.replay", f"run={folder}"],
        check=False,
        capture_output=True,
        text=True,
    )
    return "" if done.returncode == 0 else f"{done.returncode}: {done.stderr.strip()[-500:]}"

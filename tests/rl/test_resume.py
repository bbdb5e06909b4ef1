"""A run that was stopped, killed or interrupted goes on as if nothing had happened.

Kills are SIGKILLs of whole processes. Each is forked from a server that has the libraries loaded,
so that a kill costs a second and not ten.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random
from typing import Any, Protocol

import pytest

from astuner_rl import train
from astuner_rl.errors import BrokenSamplerError
from astuner_rl.samplers.transformers import TransformersSampler
from astuner_rl.types import Completion

PHASES = ("rollout", "learn", "evaluate", "record", "checkpoint")
KILLS = 10
"""At moments drawn over the wall-clock of a run."""

COMMAND = '''\
"""The command train, with its phases logged; it may kill itself in one of them.

Reads the globals ARGUMENTS, LOG, PHASE (its line, or None) and DELAY (seconds after that line).
"""

import logging
import os
import signal
import sys
import threading

from astuner_rl import train


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Killer(logging.FileHandler):
    def emit(self, record):
        super().emit(record)
        if record.getMessage() == PHASE:
            if DELAY > 0:
                threading.Timer(DELAY, kill).start()
            else:
                kill()


sys.stdout = sys.stderr = open(os.devnull, "w")
log = logging.getLogger("astuner_rl.backbones.loop")
log.setLevel(logging.DEBUG)
log.propagate = False
log.addHandler(Killer(LOG))
sys.exit(train.main(ARGUMENTS))
'''


class Outcome(Protocol):
    """What a run left, as ``conftest.py`` compares it."""

    weights: str
    metrics: tuple[str, ...]


class Runs(Protocol):
    """The fixture ``toy``."""

    env_folder: Path

    def of(self, algorithm: str) -> list[str]: ...
    def settings(self, *overrides: str) -> list[str]: ...
    def start(self, folder: Path, *overrides: str) -> int: ...
    def resume(self, folder: Path, *overrides: str) -> int: ...
    def finish(self, folder: Path, *overrides: str) -> Outcome: ...
    def expected(self, *overrides: str) -> Outcome: ...
    def outcome(self, folder: Path) -> Outcome: ...
    def metrics(self, folder: Path) -> list[dict[str, float | None]]: ...
    def checkpoints(self, folder: Path) -> list[Path]: ...


# Stopped and gone on with.


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
@pytest.mark.parametrize("kept", [1, 3])
def test_a_run_in_two_parts_is_the_run_in_one(
    toy: Runs, tmp_path: Path, algorithm: str, kept: int
) -> None:
    settings = [*toy.of(algorithm), "eval.every=1", f"checkpoint.keep={kept}"]
    whole = toy.expected(*settings)
    toy.finish(tmp_path / "parts", *settings, "train.steps=2")
    assert toy.resume(tmp_path / "parts", "train.steps=4") == 0
    assert toy.outcome(tmp_path / "parts") == whole


def test_the_reference_of_a_divergence_penalty_survives(toy: Runs, tmp_path: Path) -> None:
    settings = ["algo.kl_coefficient=0.1", "algo.warmup_steps=3", "algo.epochs=2"]
    whole = toy.expected(*settings)
    toy.finish(tmp_path / "parts", *settings, "train.steps=2")
    assert toy.resume(tmp_path / "parts", "train.steps=4") == 0
    assert toy.outcome(tmp_path / "parts") == whole


def test_adapters_and_what_they_are_added_to_survive(toy: Runs, tmp_path: Path) -> None:
    settings = ["model.lora_rank=2", "eval.every=1"]
    whole = toy.expected(*settings)
    toy.finish(tmp_path / "parts", *settings, "train.steps=2")
    assert toy.resume(tmp_path / "parts", "train.steps=4") == 0
    assert toy.outcome(tmp_path / "parts") == whole
    # As with all weights, the sampler had what the learner has: it sampled what is trained.
    gaps = [line["policy/logprob_gap_max"] for line in toy.metrics(tmp_path / "parts")[1:]]
    assert all(gap is not None and gap < 1e-4 for gap in gaps)


@pytest.mark.parametrize("algorithm", ["grpo", "sft"])
def test_what_came_after_the_last_checkpoint_is_done_again(
    toy: Runs, tmp_path: Path, algorithm: str
) -> None:
    settings = [*toy.of(algorithm), "checkpoint.every=2", "train.steps=5"]
    whole = toy.expected(*settings)
    folder = tmp_path / "parts"
    toy.finish(folder, *settings)
    shutil.rmtree(folder / "checkpoints/step-000005")
    assert toy.resume(folder) == 0
    assert toy.outcome(folder) == whole


def test_a_run_that_goes_on_from_step_0_has_one_line_for_it(toy: Runs, tmp_path: Path) -> None:
    whole = toy.expected()
    toy.finish(tmp_path / "parts", "train.steps=0")
    assert toy.resume(tmp_path / "parts", "train.steps=4") == 0
    assert toy.outcome(tmp_path / "parts") == whole


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(toy: Runs, tmp_path: Path) -> None:
    whole = toy.expected()
    folder = tmp_path / "torn"
    toy.finish(folder, "train.steps=3")
    state = toy.checkpoints(folder)[-1] / "learner.pt"
    state.write_bytes(state.read_bytes()[:-1])
    assert toy.resume(folder, "train.steps=4") == 0
    assert toy.outcome(folder) == whole


def test_a_run_without_a_whole_checkpoint_is_not_started_again(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "torn"
    toy.finish(folder)
    for checkpoint in toy.checkpoints(folder):
        (checkpoint / "hf" / ".DS_Store").touch()
    logged = (folder / "metrics.jsonl").read_bytes()
    assert toy.resume(folder) == 1
    assert "is damaged, as said above; mend one, or move them elsewhere" in capsys.readouterr().err
    assert (folder / "metrics.jsonl").read_bytes() == logged
    for checkpoint in toy.checkpoints(folder):
        (checkpoint / "hf" / ".DS_Store").unlink()
    assert toy.resume(folder) == 0


def test_a_run_that_is_done_stays_as_it_is(toy: Runs, tmp_path: Path) -> None:
    done = toy.finish(tmp_path / "run")
    assert toy.resume(tmp_path / "run") == 0
    assert toy.outcome(tmp_path / "run") == done


@pytest.mark.parametrize("max_staleness", [0, 1])
def test_a_run_that_sampled_ahead_is_exact_until_it_is_made_longer(
    toy: Runs, tmp_path: Path, max_staleness: int
) -> None:
    folder = tmp_path / "run"
    toy.finish(folder, f"overlap.max_staleness={max_staleness}", "train.steps=2")
    assert toy.resume(folder, "train.steps=3") == 0
    exact = [line["run/exact"] for line in toy.metrics(folder)]
    assert exact == [True, True, True, max_staleness == 0]


def test_settings_of_speed_may_change_on_the_way(toy: Runs, tmp_path: Path) -> None:
    whole = toy.expected()
    toy.finish(tmp_path / "parts", "train.steps=2")
    faster = ["train.steps=4", "rollout.concurrency=2", "sampler.max_sessions=3"]
    assert toy.resume(tmp_path / "parts", *faster) == 0
    assert toy.outcome(tmp_path / "parts") == whole


def test_a_run_that_lost_its_exactness_does_not_get_it_back(
    toy: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(TransformersSampler, "exact", False)
        toy.finish(folder, "train.steps=1", "eval.tasks=1")
    assert toy.resume(folder, "train.steps=2") == 0
    assert [line["run/exact"] for line in toy.metrics(folder)] == [False] * 3


def test_a_run_that_goes_on_with_another_processor_is_not_exact(
    toy: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("astuner_rl.backbones.checkpoints.processor", lambda: "an older one, AVX2")
        toy.finish(folder, "train.steps=1", "eval.tasks=1")
    assert toy.resume(folder, "train.steps=2") == 0
    assert [line["run/exact"] for line in toy.metrics(folder)] == [True, True, False]


def test_a_run_whose_learning_rate_falls_is_not_made_longer(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    toy.finish(folder, "train.steps=1", "eval.tasks=1", "algo.decay=linear")
    capsys.readouterr()
    assert "train.steps" in refusal(toy.resume(folder, "train.steps=2"), capsys)


def test_a_sampler_that_breaks_ends_the_run_and_no_task_is_lost(
    toy: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = toy.expected()
    folder = tmp_path / "run"
    asked = itertools.count()
    generate = TransformersSampler.generate

    async def breaks(sampler: TransformersSampler, *prompt: Any, **settings: Any) -> Completion:
        # In the second batch: an evaluation asks 6 times, a batch 12 times.
        if next(asked) >= 24:
            raise BrokenSamplerError("the engine has died")
        return await generate(sampler, *prompt, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(TransformersSampler, "generate", breaks)
        assert toy.start(folder) == 1
    said = capsys.readouterr().err
    assert "error: the engine has died; the run kept step-000001, which is whole" in said
    assert f"go on with run.resume={folder}" in said
    assert toy.resume(folder) == 0
    assert toy.outcome(folder) == whole


# Refused.


def refusal(status: int, capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert status == 2, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_a_folder_without_a_run_is_refused(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "run.resume must name a run folder" in refusal(toy.resume(tmp_path), capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other", ["seed=1", "algo.lr=0.5", "train.groups=3", "rollout.max_tokens=9"]
)
def test_other_settings_are_refused_and_the_run_keeps_its_own(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    done = toy.finish(tmp_path / "run", "train.steps=1")
    settings = (tmp_path / "run/config.yaml").read_bytes()
    capsys.readouterr()
    said = refusal(toy.resume(tmp_path / "run", other), capsys)
    assert "a run resumes with its own env, algo, model" in said
    assert toy.outcome(tmp_path / "run") == done
    assert (tmp_path / "run/config.yaml").read_bytes() == settings


def test_other_versions_of_the_packages_are_refused(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.finish(tmp_path / "run", "train.steps=1")
    (last,) = toy.checkpoints(tmp_path / "run")[-1:]
    meta = json.loads((last / "meta.json").read_text(encoding="utf-8"))
    meta["versions"]["torch"] = "1.0"
    (last / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    _sign(last)
    capsys.readouterr()
    said = refusal(toy.resume(tmp_path / "run"), capsys)
    assert "'torch': '1.0'" in said
    assert "install those, or start a new run" in said


def _sign(checkpoint: Path) -> None:
    """Make the checksums of a checkpoint hold again."""
    names = [line.split("  ")[1] for line in (checkpoint / "SHA256SUMS").open(encoding="utf-8")]
    sums = subprocess.run(
        ["sha256sum", *(name.strip() for name in names)],
        cwd=checkpoint,
        check=True,
        capture_output=True,
    )
    (checkpoint / "SHA256SUMS").write_bytes(sums.stdout)


# Killed.


class Killable:
    """Starts runs in processes that can be killed."""

    def __init__(self, toy: Runs, folder: Path) -> None:
        self._toy = toy
        self._folder = folder
        self._command = folder / "command.py"
        self._command.write_text(COMMAND, encoding="utf-8")
        self.log = folder / "phases.log"
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["astuner_rl.train"])

    def go_on(
        self, run: Path, *overrides: str, phase: str | None = None, delay: float = 0.0
    ) -> ForkServerProcess:
        """Resume the run in a process of its own, or start it if it had not come to be.

        Args:
            run: Its folder.
            overrides: Settings of a new run.
            phase: Line of the log after which the process kills itself.
            delay: Seconds from there.
        """
        arguments = [f"run.resume={run}"]
        if not (run / "config.yaml").exists():
            # Killed before there was anything to resume.
            shutil.rmtree(run, ignore_errors=True)
            arguments = self._toy.settings(f"run.dir={run}", *overrides)
        settings = {"ARGUMENTS": arguments, "LOG": str(self.log), "PHASE": phase, "DELAY": delay}
        process = self._context.Process(
            target=runpy.run_path, args=(str(self._command),), kwargs={"init_globals": settings}
        )
        process.start()
        return process

    def finish(self, run: Path, *overrides: str) -> None:
        """Let the run go on to its end."""
        process = self.go_on(run, *overrides)
        process.join()
        assert process.exitcode == 0

    def last_phase(self) -> str:
        """Return the phase that was logged last."""
        return self.log.read_text(encoding="utf-8").splitlines()[-1].split()[1]


@pytest.fixture
def killable(toy: Runs, tmp_path: Path) -> Killable:
    return Killable(toy, tmp_path)


@pytest.mark.parametrize(("algorithm", "max_staleness"), [("grpo", 0), ("ppo", 0), ("grpo", 2)])
def test_a_run_that_is_killed_in_every_phase_is_the_run_that_was_not(
    toy: Runs, tmp_path: Path, killable: Killable, algorithm: str, max_staleness: int
) -> None:
    overlap = f"overlap.max_staleness={max_staleness}"
    settings = [*toy.of(algorithm), overlap, "train.steps=16", "eval.every=1"]
    killable.finish(tmp_path / "whole", *settings)
    run = tmp_path / "killed"
    random = Random(f"kills/{algorithm}/{max_staleness}")
    hit = []
    for phase in PHASES:
        # A phase may be over before a delayed kill comes; one without delay always hits it.
        for delay in (random.uniform(0, 0.02), random.uniform(0, 0.002), 0.0):
            saved = toy.checkpoints(run)
            step = int(saved[-1].name.removeprefix("step-")) if saved else 0
            if phase not in ("rollout", "learn"):
                step += 1  # the learner is told its step before it is done, the journal afterwards
            process = killable.go_on(run, *settings, phase=f"phase {phase} {step}", delay=delay)
            process.join()
            assert process.exitcode == -signal.SIGKILL
            if killable.last_phase() == phase:
                hit.append(phase)
                break
    assert hit == list(PHASES)
    killable.finish(run)
    assert toy.outcome(run) == toy.outcome(tmp_path / "whole")


def test_a_run_that_is_killed_at_any_moment_is_the_run_that_was_not(
    toy: Runs, tmp_path: Path, killable: Killable
) -> None:
    settings = ["algo=ppo", "train.steps=6"]
    killable.finish(tmp_path / "warm-up", *settings)  # starts the server
    started = time.monotonic()
    killable.finish(tmp_path / "whole", *settings)
    wall_clock = time.monotonic() - started

    random = Random("kills")
    runs = [tmp_path / "killed-0"]
    kills = 0
    while kills < KILLS:
        assert len(runs) <= 4 * KILLS, "runs end before their kill: the draws are too late"
        process = killable.go_on(runs[-1], *settings)
        process.join(timeout=random.uniform(0, wall_clock))
        process.kill()
        process.join()
        if process.exitcode == 0:
            runs.append(tmp_path / f"killed-{len(runs)}")
        else:
            assert process.exitcode == -signal.SIGKILL
            kills += 1
    killable.finish(runs[-1], *settings)
    for run in runs:
        assert toy.outcome(run) == toy.outcome(tmp_path / "whole")


# Interrupted.


def test_an_interrupted_run_keeps_a_whole_checkpoint_and_leaves_nothing_running(
    toy: Runs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = ["train.steps=1000", "train.groups=8", "rollout.max_tokens=40", "eval.every=0"]
    command = toy.settings(f"run.dir={run}", *settings)
    with subprocess.Popen(
        [sys.executable, "-m", "astuner_rl.train", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until((run / "checkpoints/step-000002").exists, process)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 130
    assert said.endswith(f"go on with run.resume={run}\ninterrupted\n")
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # of its session, nobody is left

    done = int(toy.checkpoints(run)[-1].name.removeprefix("step-"))
    assert not list((run / "checkpoints").glob(".partial-*"))
    assert train.main([f"run.resume={run}", f"train.steps={done + 1}"]) == 0
    whole = toy.expected(*settings, f"train.steps={done + 1}")
    assert toy.outcome(run) == whole


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None
        time.sleep(0.01)

"""That the benchmark of faults sees what it looks for: each kind of damage is told as such."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from astuner_gym.task import RecordTasks
from astuner_rl import train
from astuner_rl.tracing.episode_log import read_episodes, write_episodes
from astuner_rl.types import EpisodeStatus
from benchmarks.faults import KINDS, Outcome, bars, divided
from benchmarks.killed_runs import Hit, KilledRuns, Kind, Reference, Run, Verdict, describe_hits
from benchmarks.phase_log import PHASES, Entry, read_phases
from benchmarks.run_audit import (
    Audit,
    Draw,
    Order,
    audit,
    damaged_checkpoints,
    difference,
    order_of,
)
from benchmarks.toy_run import TASKS, ToyRun, make_toy_run
from benchmarks.victims import TITLES, descendants, holding

STEPS, GROUPS, GROUP_SIZE = 3, 2, 2
SOUND = Audit(tasks_lost=0, tasks_doubled=0, corrupt_checkpoints=0)
SHORT = (
    f"train.steps={STEPS}",
    f"train.groups={GROUPS}",
    f"train.group_size={GROUP_SIZE}",
    "rollout.max_tokens=4",
    "eval.every=0",
    "eval.tasks=1",
    "checkpoint.every=1",
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyRun:
    return make_toy_run(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def whole(toy: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing was done to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train.main(toy.settings(*SHORT, f"run.dir={folder}")) == 0
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


ORDER = order_of(
    RecordTasks("train", [{"question": str(number)} for number in range(TASKS)]),
    seed=0,
    steps=STEPS,
    groups=GROUPS,
    group_size=GROUP_SIZE,
)


def last(run: Path) -> Path:
    return run / f"checkpoints/step-{STEPS:06d}"


def log(run: Path, step: int) -> Path:
    return run / f"episodes/step-{step:06d}.jsonl.gz"


def rewrite_metrics(run: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = run / "metrics.jsonl"
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


# What became of a run.


def test_the_order_is_that_of_the_data() -> None:
    tasks = RecordTasks("t", [{"question": "a"}, {"question": "b"}])
    order = order_of(tasks, seed=0, steps=2, groups=2, group_size=3)
    assert order.steps == 2
    assert [(draw.step, draw.position) for draw in order.draws] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for step in (0, 1):
        assert {draw.task_id for draw in order.draws if draw.step == step} == {"t-0", "t-1"}


def test_a_sound_run_is_sound(run: Path, whole: Path) -> None:
    assert audit(run, ORDER) == SOUND
    assert difference(run, whole) == ""


def test_an_episode_that_is_missing_is_a_task_lost(run: Path) -> None:
    path = log(run, 2)
    write_episodes(path, list(read_episodes(path))[1:])
    assert audit(run, ORDER) == Audit(tasks_lost=1, tasks_doubled=0, corrupt_checkpoints=0)


def test_an_episode_that_failed_is_a_task_lost(run: Path) -> None:
    path = log(run, 2)
    first, *rest = read_episodes(path)
    failed = replace(first.episode, status=EpisodeStatus.FAILED, reason="the engine has died")
    write_episodes(path, [replace(first, episode=failed), *rest])
    assert audit(run, ORDER).tasks_lost == 1


def test_a_step_without_a_log_is_all_its_tasks_lost(run: Path) -> None:
    log(run, 2).unlink()
    assert audit(run, ORDER).tasks_lost == GROUPS


def test_a_step_without_figures_is_all_its_tasks_lost(run: Path) -> None:
    rewrite_metrics(run, lambda lines: lines[:-1])
    assert audit(run, ORDER).tasks_lost == GROUPS


def test_an_episode_that_is_there_twice_is_a_task_doubled(run: Path) -> None:
    path = log(run, 2)
    first, *rest = read_episodes(path)
    write_episodes(path, [first, first, *rest])
    assert audit(run, ORDER) == Audit(tasks_lost=0, tasks_doubled=1, corrupt_checkpoints=0)


def test_a_step_that_was_done_twice_is_all_its_tasks_doubled(run: Path) -> None:
    rewrite_metrics(run, lambda lines: [*lines, lines[-1]])
    assert audit(run, ORDER).tasks_doubled == GROUPS


def test_a_task_in_the_place_of_another_is_one_lost_and_one_doubled(run: Path) -> None:
    (wrong, *draws) = ORDER.draws
    other = Draw(step=wrong.step, position=wrong.position, task_id="another")
    order = Order(draws=(other, *draws), group_size=GROUP_SIZE)
    assert audit(run, order) == Audit(tasks_lost=1, tasks_doubled=1, corrupt_checkpoints=0)


@pytest.mark.parametrize("name", ["learner.pt", "hf/model.safetensors", "meta.json"])
def test_a_bit_that_has_changed_is_a_corrupt_checkpoint(run: Path, name: str) -> None:
    path = last(run) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert damaged_checkpoints(run / "checkpoints") == [last(run)]
    assert audit(run, ORDER).corrupt_checkpoints == 1


def test_a_file_that_is_missing_is_a_corrupt_checkpoint(run: Path) -> None:
    (last(run) / "learner.pt").unlink()
    assert audit(run, ORDER).corrupt_checkpoints == 1


def test_a_last_checkpoint_that_is_missing_counts_as_corrupt(run: Path) -> None:
    shutil.rmtree(last(run))
    assert audit(run, ORDER).corrupt_checkpoints == 1


def test_a_run_of_another_seed_differs(toy: ToyRun, whole: Path, tmp_path: Path) -> None:
    assert train.main(toy.settings(*SHORT, f"run.dir={tmp_path / 'run'}", "seed=1")) == 0
    assert difference(tmp_path / "run", whole) == "weights"


def test_a_figure_that_is_another_is_a_difference(run: Path, whole: Path) -> None:
    def change(lines: list[str]) -> list[str]:
        return [*lines[:-1], json.dumps(json.loads(lines[-1]) | {"reward/mean": 7.0}) + "\n"]

    rewrite_metrics(run, change)
    assert difference(run, whole) == "figures"


def test_an_episode_that_is_another_is_a_difference(run: Path, whole: Path) -> None:
    path = log(run, 1)
    write_episodes(path, list(read_episodes(path))[1:])
    assert difference(run, whole) == "episodes"


# What a kill hit.


def phases(*entries: tuple[float, str, int]) -> list[Entry]:
    return [Entry(time=time, phase=phase, step=step) for time, phase, step in entries]


def test_a_kill_is_told_by_the_phase_that_it_hit_and_by_the_next_step_done() -> None:
    entries = phases(
        (10.0, "rollout", 0),
        (12.0, "learn", 0),
        (13.0, "record", 1),
        (14.0, "rollout", 1),
        # Launched again at 15; step 1 is done again, which brings nothing new.
        (20.0, "learn", 0),
        (21.0, "record", 1),
        (23.0, "record", 2),
    )
    hits = [
        Hit(victim="trainer", time=14.5, after_s=14.5),
        Hit(victim="sampler", time=16.0, after_s=1.0),
        Hit(victim="sampler", time=24.0, after_s=9.0),
    ]
    describe_hits(hits, entries, ended=30.0)
    assert [(hit.phase, hit.step) for hit in hits] == [
        ("rollout", 1),
        ("start-up", 0),
        ("record", 2),
    ]
    assert [hit.recovery_s for hit in hits] == [8.5, 7.0, 6.0]


def test_half_a_line_of_phases_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "phases.log"
    path.write_text("1.5 phase rollout 0\n2.5 phase lea")
    assert read_phases(path) == phases((1.5, "rollout", 0))
    assert read_phases(tmp_path / "absent.log") == []


def test_victims_are_found_below_the_trainer_by_their_titles() -> None:
    program = (
        "import subprocess, sys; subprocess.run(['ray::SamplerActor', '-c', %r], executable=%r)"
    )
    waits = "import time; time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", program % (waits, sys.executable)], start_new_session=True
    ) as trainer:
        deadline = time.monotonic() + 30
        while not (found := holding("sampler", descendants(trainer.pid))):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(found) == 1
        assert found[0].alive
        assert not any(
            holding(part, descendants(trainer.pid)) for part in TITLES if part != "sampler"
        )
        os.killpg(trainer.pid, signal.SIGKILL)
    while found[0].alive:
        time.sleep(0.01)


# What is reported.


def outcome(tmp_path: Path, *, exact: bool, hits: list[Hit], verdict: Verdict) -> Outcome:
    run = Run(files=tmp_path, hits=hits)
    return Outcome(
        kind=Kind(name="a", settings=(), victims=("trainer",), exact=exact, share=1),
        reference=Reference(run=run, wall_s=1.0, start_s=0.5, step_s=0.1, share={}),
        runs=[run],
        verdicts=[verdict],
        passed_over=0,
    )


def hits_of_all_phases() -> list[Hit]:
    return [Hit(victim="trainer", time=0, after_s=0, phase=phase) for phase in PHASES]


def test_bars_hold_where_all_is_well(tmp_path: Path) -> None:
    verdict = Verdict(audit=SOUND, failure="", processes_left=0)
    outcomes = [
        outcome(tmp_path, exact=exact, hits=hits_of_all_phases(), verdict=verdict)
        for exact in (True, False)
    ]
    assert all(bar.holds for bar in bars(outcomes, kills=14).values())
    assert not bars(outcomes, kills=15)["kills"].holds


def test_bars_fall_by_what_is_wrong_or_was_not_tried(tmp_path: Path) -> None:
    damaged = Audit(tasks_lost=1, tasks_doubled=2, corrupt_checkpoints=3)
    verdict = Verdict(audit=damaged, failure="weights", processes_left=0)
    wrong = [outcome(tmp_path, exact=True, hits=hits_of_all_phases()[1:], verdict=verdict)]
    values = {name: bar.value for name, bar in bars(wrong, kills=1).items() if not bar.holds}
    assert values.pop("replays_differing") != values.get("replays_differing")  # NaN: none was run
    assert values == {
        "phases_missed": 1,
        "tasks_lost": 1,
        "tasks_doubled": 2,
        "corrupt_checkpoints": 3,
        "exact_runs_differing": 1,
    }


def test_kills_that_waited_for_a_phase_are_not_among_the_random_ones(tmp_path: Path) -> None:
    verdict = Verdict(audit=SOUND, failure="", processes_left=0)
    hits = [Hit(victim="trainer", time=0, after_s=0, phase="record", aimed=True)]
    assert (
        bars([outcome(tmp_path, exact=True, hits=hits, verdict=verdict)], kills=1)["kills"].value
        == 0
    )


def test_all_kills_are_divided() -> None:
    assert divided(50, KINDS) == [kind.share for kind in KINDS]
    assert divided(50, KINDS[:2]) == [15, 35]


# All of it, on a run of a second.


@pytest.mark.timeout(900)  # commands are started, one after the other
def test_runs_that_are_killed_come_to_their_end_and_are_sound(toy: ToyRun, tmp_path: Path) -> None:
    runs = KilledRuns(KINDS[0], toy, steps=2, folder=tmp_path / "runs", random=Random(0))
    runs.rain(1, every_s=0.1)
    runs.aim("record")
    hits = [hit for run in runs.runs for hit in run.hits]
    assert [(hit.victim, hit.aimed) for hit in hits] == [("trainer", False), ("trainer", True)]
    assert hits[-1].phase == "record"
    for run in runs.runs:
        assert runs.verdict(run, runs.order()) == Verdict(audit=SOUND, failure="", processes_left=0)

"""A run's weights follow from its log, whatever the order in which things happened."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from astuner_rl import replay
from astuner_rl.tracing.episode_log import read_episodes, write_episodes

AHEAD = ["overlap.max_staleness=1", "eval.every=0", "checkpoint.keep=2"]


class Runs(Protocol):
    """The fixture ``toy``."""

    def of(self, algorithm: str) -> list[str]: ...
    def start(self, folder: Path, *overrides: str) -> int: ...
    def resume(self, folder: Path, *overrides: str) -> int: ...
    def metrics(self, folder: Path) -> list[dict[str, float | None]]: ...
    def checkpoints(self, folder: Path) -> list[Path]: ...


def played(run: Path) -> Counter[tuple[int, int, int]]:
    """How often each training episode (step, task, sample) is in a run's log."""
    episodes: Counter[tuple[int, int, int]] = Counter()
    for path in (run / "episodes").glob("step-??????.jsonl.gz"):
        for logged in read_episodes(path):
            key = logged.episode.key
            episodes[key.step, key.task, key.sample] += 1
    return episodes


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
@pytest.mark.parametrize("overlap", [[], AHEAD, [*AHEAD, "overlap.in_flight=true"]])
def test_a_runs_weights_follow_from_its_log(
    toy: Runs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    algorithm: str,
    overlap: list[str],
) -> None:
    run = tmp_path / "run"
    assert toy.start(run, *toy.of(algorithm), *overlap) == 0
    exact = "overlap.in_flight=true" not in overlap
    assert [line["run/exact"] for line in toy.metrics(run)] == [exact] * 5
    capsys.readouterr()
    assert replay.main([f"run={run}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "step 3: weights and optimizer are the checkpoint's, bit for bit",
        "step 4: weights and optimizer are the checkpoint's, bit for bit",
    ]


def test_the_adapters_of_a_run_follow_from_its_log(toy: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert toy.start(run, "model.lora_rank=2") == 0
    assert replay.main([f"run={run}"]) == 0


def test_an_asynchronous_run_in_two_parts_plays_every_episode_once_and_replays(
    toy: Runs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert toy.start(run, *AHEAD, "train.steps=6", "checkpoint.keep=6") == 0
    for checkpoint in toy.checkpoints(run)[3:]:
        checkpoint.rename(tmp_path / checkpoint.name)  # as if it had been killed before them
    assert toy.resume(run) == 0
    everything = [(step, task, n) for step in range(6) for task in (0, 1) for n in (0, 1)]
    assert played(run) == Counter(everything)
    assert replay.main([f"run={run}"]) == 0


def test_an_altered_log_is_found_out(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert toy.start(run, "train.steps=2") == 0
    log = run / "episodes/step-000001.jsonl.gz"
    first, *rest = read_episodes(log)
    better = {agent: reward + 1 for agent, reward in first.episode.rewards.items()}
    altered = replace(first, episode=replace(first.episode, rewards=better))
    write_episodes(log, [altered, *rest])
    capsys.readouterr()
    assert replay.main([f"run={run}"]) == 1
    said = capsys.readouterr().err
    assert "the weights must follow from the recorded episodes, but learner." in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "replay needs a run"), (["run=nowhere"], "run.resume must name a run folder")],
)
def test_without_a_run_there_is_nothing_to_replay(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert replay.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_run_that_imitated_sampled_nothing_to_replay(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert toy.start(run, *toy.of("sft"), "train.steps=1") == 0
    capsys.readouterr()
    assert replay.main([f"run={run}"]) == 2
    assert "samples nothing to learn from" in capsys.readouterr().err

"""``evaluate``: which policy is measured, on what, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import pytest

from astuner_rl import evaluate
from astuner_rl.evaluate import with_run


class ToyRuns(Protocol):
    """The fixture ``toy``."""

    env_folder: Path

    def settings(self, *overrides: str) -> list[str]: ...
    def start(self, folder: Path, *overrides: str) -> int: ...
    def metrics(self, folder: Path) -> list[dict[str, float | None]]: ...


def figures(printed: str) -> dict[str, dict[str, float]]:
    last: dict[str, dict[str, float]] = json.loads(printed.strip().splitlines()[-1])
    return last


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_run_is_short_for_the_settings_of_a_run() -> None:
    assert with_run(["eval.samples=4", "run=runs/a=b", "run.dir=c"]) == [
        "run.resume=runs/a=b",
        "run.dir=null",
        "eval.samples=4",
        "run.dir=c",
    ]
    assert with_run(["run.resume=a", "--help"]) == ["run.resume=a", "--help"]


def test_a_run_is_measured_as_it_measured_itself(
    toy: ToyRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert toy.start(run, "train.steps=1", "algo.lr=0.1", "eval.temperature=0") == 0
    before, last = files(run), toy.metrics(run)[-1]
    capsys.readouterr()

    assert evaluate.main([f"run={run}"]) == 0
    measured = figures(capsys.readouterr().out)
    assert measured.keys() == {"eval/accuracy", "eval/reward"}
    for name, interval in measured.items():
        assert interval == {
            "mean": last[name],
            "low": last[f"{name}/low"],
            "high": last[f"{name}/high"],
        }
    assert files(run) == before  # to measure a run leaves no trace in it

    assert evaluate.main(toy.settings("eval.temperature=0")) == 0
    assert figures(capsys.readouterr().out)["eval/reward"] != measured["eval/reward"]  # untrained


def test_several_samples_give_pass_at_k(toy: ToyRuns, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(toy.settings("eval.samples=4", "eval.tasks=3")) == 0
    printed = capsys.readouterr().out
    measured = figures(printed)
    assert list(measured) == ["eval/accuracy", "eval/reward", "eval/pass@2", "eval/pass@4"]
    means = [measured[name]["mean"] for name in ("eval/accuracy", "eval/pass@2", "eval/pass@4")]
    assert means == sorted(means)
    table = printed.splitlines()[:-1]
    for name, interval in measured.items():
        (row,) = [line for line in table if name in line]
        assert f"{interval['mean']:.3f}" in row


def test_successes_become_demonstrations(toy: ToyRuns, tmp_path: Path) -> None:
    # The judge of the toy environment prefers a writer of small digits to such a critic.
    scripted = ["sampler=scripted", "sampler.replies=['1']", f"run.dir={tmp_path}"]
    command = [each for each in toy.settings() if not each.startswith("sampler.")]
    assert evaluate.main([*command, *scripted]) == 0
    lines = (tmp_path / "demonstrations.jsonl").read_text(encoding="utf-8").splitlines()
    said = [
        [(message["role"], message["content"]) for message in json.loads(line)["messages"]]
        for line in lines
    ]
    first_task, second_task = (
        # Each agent's last call holds all that it saw and said.
        [
            [("user", "1"), ("assistant", "1")],
            [("user", question), ("assistant", "1"), ("user", "1"), ("assistant", "1")],
        ]
        for question in ("eval 0", "eval 1")
    )
    assert said == [*first_task, *second_task]


def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([f"run={tmp_path}"]) == 2
    assert "must name a run folder, which holds config.yaml" in capsys.readouterr().err


def test_a_run_without_a_checkpoint_is_refused(
    toy: ToyRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert toy.start(run, "train.steps=0") == 0
    for checkpoint in (run / "checkpoints").iterdir():
        checkpoint.rename(tmp_path / checkpoint.name)
    assert evaluate.main([f"run={run}"]) == 2
    assert "a trained model is in a whole checkpoint, and this run has none" in (
        capsys.readouterr().err
    )


def test_episodes_that_all_fail_are_no_measurement(
    toy: ToyRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text("def score(task, result):\n    raise KeyError('nobody')\n", encoding="utf-8")
    assert evaluate.main(toy.settings(f"env.judge={judge}:score", "rollout.attempts=1")) == 1
    said = capsys.readouterr()
    assert "at least one episode must reach its end, none of 2 did" in said.err
    assert "KeyError('nobody')" in said.err
    assert said.out == ""

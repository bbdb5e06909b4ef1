"""A finished run judged by another judge."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from astuner_gym.testing.chat_server import ChatServer
from astuner_rl import rescore
from astuner_rl.rescore import Change
from astuner_rl.types import Episode, EpisodeKey, EpisodeStatus
from tests.rl.conftest import ToyRuns

OTHER = '''\
"""The same judge, a constant one, and one that fails on some outputs."""

from agents import score
from astuner_gym.judge import Score


def upside_down(task, result):
    judged = score(task, result)
    if isinstance(judged, float):
        return -judged
    rewards = {agent: -reward for agent, reward in judged.rewards.items()}
    return Score(rewards=rewards, success=not judged.success)


def constant(task, result):
    return 0.25


def failing(task, result):
    if len(result.output[0]) % 2:
        raise ValueError("odd")
    return 1.0


def never(task, result):
    raise ValueError("never")
'''


@pytest.fixture(scope="module")
def run(toy: ToyRuns) -> Path:
    toy.expected()
    (toy.env_folder / "other.py").write_text(OTHER, encoding="utf-8")
    return toy.expected_folder()


def figures(
    run: Path, capsys: pytest.CaptureFixture[str], *judge: str
) -> dict[str, dict[str, float]]:
    assert rescore.main([f"run={run}", *judge]) == 0
    last: dict[str, dict[str, float]] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return last


def test_the_same_judge_changes_nothing(
    toy: ToyRuns, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for phase in figures(run, capsys, "judge=env").values():
        assert phase["reward_before"] == phase["reward_after"]
        assert (phase["success_changed"], phase["dropped"]) == (0, 0)
        assert phase.get("pairs_reordered", 0) == 0
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_another_judge_would_change_is_shown_by_phase(
    toy: ToyRuns, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = f"judge.function={toy.env_folder}/other.py:upside_down"
    found = figures(run, capsys, "judge=function", judge)
    assert sorted(found) == ["eval/eval", "train"]
    assert found["train"]["episodes"] == 16  # 4 steps of 2 groups of 2
    assert found["eval/eval"]["episodes"] == 6  # 2 tasks at steps 0, 2 and 4
    for phase in found.values():
        assert phase["reward_after"] == pytest.approx(-phase["reward_before"])
    assert found["train"]["pairs_reordered"] == 1


def test_parts_of_a_sum_and_penalties_are_judges_too(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = "judge.parts={own: {judge: env}, long: {judge: length, limit: 1, weight: 10}}"
    found = figures(run, capsys, "judge=composed", parts)["train"]
    assert found["reward_after"] < found["reward_before"] - 5


def test_a_model_may_compare_groups(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(messages: Sequence[Mapping[str, str]]) -> str:
        return "Better: 1" if "answer 1" in messages[1]["content"] else "none"

    with ChatServer(answer) as server:
        settings = ["judge=llm", f"judge.base_url={server.url}", "judge.model=m"]
        found = figures(run, capsys, *settings, "judge.mode=pairwise", "judge.attacks=flag")
    assert found["train"]["reward_after"] == pytest.approx(0.5)  # it favours a place, not an answer
    assert found["eval/eval"]["reward_after"] == found["eval/eval"]["reward_before"]
    assert server.requests


def test_episodes_that_cannot_be_scored_are_counted_and_not_scored(
    toy: ToyRuns, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = f"judge.function={toy.env_folder}/other.py:failing"
    found = figures(run, capsys, "judge=function", judge)["train"]
    assert found["dropped"] + found["episodes"] == 16
    assert found["reward_after"] == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["judge=env"], 2, "rescore needs a run; give it run=<folder>"),
        (["run={run}"], 2, "rescore needs another judge than the run's"),
        (["run={run}", "judge=rubrik"], 2, "did you mean judge=rubric"),
        (["run={run}/episodes", "judge=env"], 2, "must name a run folder"),
        (
            ["run={run}", "judge=function", "judge.function={env}/other.py:never"],
            1,
            "at least one episode must be scored",
        ),
    ],
)
def test_what_cannot_be_done_is_said(
    toy: ToyRuns,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    given = [each.format(run=run, env=toy.env_folder) for each in arguments]
    assert rescore.main(given) == status
    assert message in capsys.readouterr().err


def test_a_run_without_results_is_named(
    toy: ToyRuns, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    (old / "episodes").mkdir(parents=True)
    (old / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    log = run / "episodes" / "step-000001.jsonl.gz"
    lines = [json.loads(line) for line in gzip.decompress(log.read_bytes()).splitlines()]
    for line in lines:
        del line["result"], line["given"]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (old / "episodes" / log.name).write_bytes(gzip.compress(text.encode()))
    assert rescore.main([f"run={old}", "judge=env"]) == 2
    assert "holds no result to judge: the run is of an earlier version" in capsys.readouterr().err


def test_its_help_lists_the_settings_of_the_other_judge(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--help", "judge=llm"], [f"run={run}", "judge=llm", "--help"]):
        assert rescore.main(arguments) == 0
        text = capsys.readouterr().out
        assert text.startswith("usage: astuner rescore run=<run folder> judge=<option>")
        assert "composed env function [llm] rubric" in text
        assert "  judge.base_url=" in text


def episode(sample: int, reward: float, *, success: bool = False, **more: Any) -> Episode:
    return Episode(
        key=EpisodeKey("train", 0, 0, sample),
        task_id="t",
        calls=(),
        status=EpisodeStatus.COMPLETED,
        rewards={"ann": reward},
        success=success,
        **more,
    )


def test_the_order_within_groups_is_compared_pair_by_pair() -> None:
    change = Change()
    before = [episode(0, 0.0), episode(1, 1.0), episode(2, 1.0, success=True)]
    after = [episode(0, 0.5), episode(1, 0.5), episode(2, 1.0)]
    change.add(before, after)
    # Unlike: 0-1, of equal worth now; 0-2, in the same order; 1-2, of equal worth before.
    assert (change.unlike, change.reordered) == (3, 2)
    assert change.figures() == {
        "episodes": 3,
        "dropped": 0,
        "reward_before": pytest.approx(2 / 3),
        "reward_after": pytest.approx(2 / 3),
        "success_before": pytest.approx(1 / 3),
        "success_after": 0,
        "success_changed": pytest.approx(1 / 3),
        "pairs_reordered": pytest.approx(2 / 3),
    }

"""The tutorial of several agents: what it shows runs, and prints what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from astuner_rl import train

DOCS = Path(__file__).parents[2] / "docs"
TUTORIAL = (DOCS / "tutorial_multi_agent.md").read_text("utf-8")
PANEL = ["env=custom", "env.workflow=panel.py:Panel", "env.judge=panel.py:score"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the example."""
    shutil.copytree(DOCS / "examples/panel", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def test_the_panel_is_stepped_and_prints_what_the_page_says() -> None:
    blocks = re.findall(r"```(python|text)\n(.*?)```", TUTORIAL, flags=re.DOTALL)
    texts = [text for kind, text in blocks]
    program = next(text for text in texts if "WorkflowEnv" in text)
    printed = texts[texts.index(program) + 1]
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert run.stdout == printed


def test_the_code_on_the_page_is_that_of_the_example() -> None:
    """Without the comments and types that a page leaves out."""
    example = Path("panel.py").read_text("utf-8")
    shown = next(text for text in re.findall(r"```python\n(.*?)```", TUTORIAL, flags=re.DOTALL))
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    assert [line for line in lines if line not in example] == ["async def run(self, task, models):"]


def test_the_panel_is_trained(hf_folder: Path) -> None:
    settings = [
        "env.tasks.path=tasks.jsonl",
        "model=hf",
        f"model.path={hf_folder}",
        "sampler.context_length=256",
        "sampler.max_sessions=8",
        "rollout.max_tokens=8",
        "train.groups=2",
        "train.group_size=2",
        "train.steps=1",
        "run.dir=run",
    ]
    assert train.main([*PANEL, *settings]) == 0
    line = json.loads(Path("run/metrics.jsonl").read_text("utf-8").splitlines()[-1])
    assert line["calls/mean"] == 6
    assert line["episodes/dropped"] == 0
    assert "reward/panelist/mean" in line


def test_another_policy_plays_the_roles_that_do_not_learn(
    hf_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A frozen model answers for the village; no token of its is in the run's log."""
    opponent = tmp_path / "opponent"
    shutil.copytree(hf_folder, opponent)
    settings = [
        "env=werewolves",
        "env.village=model",
        "env.rounds=1",
        "opponent=hf",
        f"opponent.path={opponent}",
        "model=hf",
        f"model.path={hf_folder}",
        "sampler.context_length=512",
        "sampler.max_sessions=8",
        "rollout.max_tokens=4",
        "train.groups=1",
        "train.group_size=2",
        "train.steps=1",
        "eval.tasks=1",
        "run.dir=run",
    ]
    assert train.main(settings) == 0
    line = json.loads(Path("run/metrics.jsonl").read_text("utf-8").splitlines()[-1])
    assert "reward/werewolf/mean" in line
    assert not [name for name in line if name.startswith("reward/villager")]
    assert "tokens/masked/untrained_role" not in line
    assert line["run/exact"] is True

    weights = opponent / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    capsys.readouterr()
    assert train.main(["run.resume=run", "train.steps=2"]) == 2
    assert "opponent" in capsys.readouterr().err


def test_no_roles_at_all_cannot_learn(capsys: pytest.CaptureFixture[str]) -> None:
    for env in ("gsm8k", "werewolves"):
        assert train.main([f"env={env}", "env.trainable=[]"]) == 2
        assert "env.trainable must name a role, or be null" in capsys.readouterr().err

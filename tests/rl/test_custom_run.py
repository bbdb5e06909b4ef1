"""An environment of a user's own, copied out of the documentation and trained from there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from astuner_rl import train

EXAMPLE = Path(__file__).parents[2] / "docs/examples/custom_env"
CUSTOM = [
    "env=custom",
    "env.workflow=my_agent.py:ShopAssistant",
    "env.judge=my_agent.py:score",
    "env.tasks.path=tasks.jsonl",
]
SHORT = [
    "rollout.max_tokens=8",
    "sampler.max_sessions=8",
    "train.groups=2",
    "train.group_size=2",
    "run.dir=run",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the example."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def metrics() -> list[dict[str, float]]:
    return [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]


def test_the_example_is_trained(hf_folder: Path) -> None:
    model = ["model=hf", f"model.path={hf_folder}", "sampler.context_length=256"]
    assert train.main([*CUSTOM, *model, *SHORT, "train.steps=2"]) == 0
    lines = metrics()
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert [line["eval/episodes"] for line in (lines[0], lines[2])] == [4, 4]  # a tenth of 40
    assert all(line["episodes/dropped"] == 0 for line in lines[1:])
    assert all("workflow/lookups" in line for line in lines[1:])


def test_the_example_pays_for_the_right_item(capsys: pytest.CaptureFixture[str]) -> None:
    task = json.loads(Path("tasks.jsonl").read_text().splitlines()[0])
    Path("one.jsonl").write_text(json.dumps(task), encoding="utf-8")
    (wrong,) = task["prices"].keys() - {task["answer"]}
    call = json.dumps({"name": "price", "arguments": {"item": wrong}})
    for answer, reward in ((task["answer"], "1"), (wrong, "0.1"), ("Both", "0")):
        replies = f"sampler.replies=['<tool_call>{call}</tool_call>','{answer}']"
        settings = ["backbone=debug", "sampler=scripted", replies, "train.steps=1"]
        groups = ["train.groups=1", "train.group_size=2"]
        assert train.main([*CUSTOM, *settings, *groups, "env.tasks.path=one.jsonl"]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert f"  tool: '{task['prices'][wrong]}'" in printed
        assert f"rewards: assistant {reward}" in printed


def test_a_tiny_model_learns_to_call_tools_from_gsm8k_where_an_environment_has_no_demonstrations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smallest = [
        "model=tiny",
        "model.hidden_size=64",
        "model.layers=1",
        "model.vocab_size=1300",
        "model.demonstrations=16",
        "model.passes=1",
        "model.held_out=2",
        f"model.cache={tmp_path}/cache",
    ]
    assert train.main([*CUSTOM, *smallest, *SHORT, "train.steps=1"]) == 0
    assert "building the tiny model in" in capsys.readouterr().err
    assert [line["step"] for line in metrics()] == [0, 1]
    (built,) = (tmp_path / "cache").iterdir()
    assert "calculator" in (built / "tokenizer.json").read_text()  # a word of those demonstrations

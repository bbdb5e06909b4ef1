"""``judge=llm`` marks the questions of ``env=learn_to_ask`` by the environment's own brief."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from astuner_gym.testing.chat_server import ChatServer
from astuner_rl import train

DEBUG = (
    "env=learn_to_ask",
    "backbone=debug",
    "sampler=scripted",
    "sampler.replies=['Since when?']",
    "train.steps=1",
    "train.groups=2",
    "train.group_size=2",
    "judge=llm",
    "judge.model=scripted",
)


def test_a_run_is_judged_by_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def answer(messages: Sequence[Mapping[str, str]]) -> str:
        assert "You mark the reply of a clerk" in messages[0]["content"]
        return "<format_score>1</format_score>\n<content_score>0.5</content_score>"

    with ChatServer(answer) as server:
        assert train.main([*DEBUG, f"judge.base_url={server.url}"]) == 0
        # Each of a group's two replies is the same, and an answer is paid for once.
        assert 1 <= len(server.requests) <= 2
    printed = capsys.readouterr().out
    assert printed.count("rewards: clerk 3\n") == 4

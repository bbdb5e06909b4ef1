"""The example of RLlib in docs/adapters.md runs as it stands there."""

from __future__ import annotations

import ast

import pytest

from tests.adapters.examples import examples


def test_both_wolves_win_or_lose(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = examples("RLlib")
    exec(compile(example, "docs/adapters.md", "exec"), {})
    rewards = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    assert len(rewards) == 2
    assert len(set(rewards.values())) == 1

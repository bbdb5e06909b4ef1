"""The example of PettingZoo in docs/adapters.md runs as it stands there."""

from __future__ import annotations

import ast

import pytest

from tests.adapters.examples import examples


def test_all_players_get_a_reward(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = examples("PettingZoo")
    exec(compile(example, "docs/adapters.md", "exec"), {})
    rewards = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    assert sorted(rewards) == ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus"]

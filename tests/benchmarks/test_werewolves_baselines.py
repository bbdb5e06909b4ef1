"""The recursion by hand, and that rows count what was played."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from astuner_envs.werewolves.rules import SEVEN_PLAYERS
from benchmarks import werewolves_baselines
from benchmarks.werewolves_baselines import (
    AS_SET,
    CLOSED_FORM,
    PAIRS,
    PRESETS,
    Matchup,
    Wins,
    main,
    matchups,
    other_rules,
    play_all,
    play_games,
    without_powers,
    wolves_win_by_recursion,
)


@pytest.mark.parametrize(
    ("wolves", "others", "chance"),
    [
        (1, 2, 1.0),  # the night brings parity
        (1, 3, 2 / 3),  # one of three is lynched
        (1, 5, 4 / 5 * 2 / 3),  # after that night and day it is 1 against 3
        (2, 5, 0.917),
        (3, 6, 0.969),
    ],
)
def test_the_recursion(wolves: int, others: int, chance: float) -> None:
    assert wolves_win_by_recursion(wolves, others) == pytest.approx(chance, abs=5e-4)


def matchup(**changes: object) -> Matchup:
    row = Matchup(
        preset="7 players",
        rule=CLOSED_FORM,
        rules=without_powers(SEVEN_PLAYERS),
        village="uniform",
        wolves="uniform",
        games=600,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def test_every_game_of_a_row_is_played_once() -> None:
    row = matchup()
    wins = play_games(row, range(600))
    assert wins.wolves + wins.village + wins.truncated == 600
    assert wins.illegal == 0
    assert play_all([row], processes=2) == [wins]
    assert sum((play_games(row, range(i, i + 200)) for i in (0, 200, 400)), Wins()) == wins


def test_the_round_limit_is_counted_apart() -> None:
    rules = replace(without_powers(SEVEN_PLAYERS), rounds=1)
    wins = play_games(matchup(rules=rules), range(20))
    assert (wins.wolves, wins.village, wins.truncated) == (0, 0, 20)


def test_every_rule_is_played_by_every_pair_with_each_preset() -> None:
    rows = matchups(1)
    for preset, rules in PRESETS.items():
        played = [row for row in rows if row.preset == preset and row.rule != CLOSED_FORM]
        assert len(played) == (1 + len(other_rules(rules))) * len(PAIRS)
        assert all(changed != rules for changed in other_rules(rules).values())
    assert {row.games for row in rows if row.rule == CLOSED_FORM} == {20_000}


def test_the_environments_readme_has_the_kept_figures() -> None:
    root = Path(__file__).parents[2]
    readme = (root / "envs/astuner_envs/werewolves/README.md").read_text()
    kept = json.loads((root / "benchmarks/results/werewolves_baselines.json").read_text())
    cells = {pair: [f"| `{pair[0]}` | `{pair[1]}` "] for pair in PAIRS}
    for row in kept["figures"]["rows"]:
        if row["rule"] == AS_SET:
            share = {name: f"{100 * value:.1f}" for name, value in row["wolves_win"].items()}
            cell = f"| {share['mean']} % ({share['low']} – {share['high']}) "
            cells[row["village"], row["wolves"]].append(cell)
    for line in cells.values():
        assert "".join(line) + "|" in readme


def test_the_last_line_holds_every_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["werewolves_baselines", "--quick"])
    monkeypatch.setattr(werewolves_baselines, "QUICK_SHARE", 500)
    main()
    outcome = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [*outcome["bars"]] == [
        "minutes",
        "seven_players_two_wolves_error",
        "nine_players_three_wolves_error",
    ]
    assert outcome["figures"]["illegal"] == 0

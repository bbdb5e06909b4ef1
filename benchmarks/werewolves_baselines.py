"""Win rates of the scripted werewolves players, under the presets and under each other rule.

A win rate means nothing by itself: it depends on the rules and on who plays the other side. These
are the figures that a trained player is compared with. Games of a row have the seeds 0, 1, …, so
rows differ by rules and players alone.

Without powers and talk, and with uniform players, the wolves' win rate is known: after a night
that kills one of the others, each of the living is as likely to be lynched. With w wolves and
v others before a night::

    W(w, v) = 1 if w >= v - 1, else (w · D(w - 1, v - 1) + (v - 1) · D(w, v - 2)) / (w + v - 1)
    D(0, v) = 0;  D(w, v) = 1 if w >= v, else W(w, v)

The engine's games are held against it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace

from astuner_envs.werewolves.engine import Game
from astuner_envs.werewolves.players import PLAYERS, play
from astuner_envs.werewolves.rules import NINE_PLAYERS, SEVEN_PLAYERS, Rules, Side, Tie
from astuner_rl.tracing.intervals import wilson_interval
from benchmarks.report import Bar, report

PRESETS = {"7 players": SEVEN_PLAYERS, "9 players": NINE_PLAYERS}
AS_SET = "as preset"
CLOSED_FORM = "no powers, no talk"
RECURSION_GAMES, PRESET_GAMES, RULE_GAMES = 20_000, 5_000, 1_000
"""Games of a row against the recursion, under a preset, and under another rule."""
QUICK_SHARE = 20
_CHUNK = 250

PAIRS = tuple(
    (village, wolves)
    for village in ("uniform", "seer_following")
    for wolves in ("uniform", "careful")
)
"""Village and wolves. Careful villagers play as seer-following ones, seer-following wolves as
uniform ones."""


def other_rules(preset: Rules) -> dict[str, Rules]:
    """Return rules that differ from a preset in one setting each, by that setting."""
    return {
        "self_vote": replace(preset, self_vote=True),
        "wolves_may_target_wolves": replace(preset, wolves_may_target_wolves=True),
        "witch_may_heal_self": replace(preset, witch_may_heal_self=True),
        "witch_may_use_both": replace(preset, witch_may_use_both=True),
        "tie=none": replace(preset, tie=Tie.NONE),
        "tie=revote": replace(preset, tie=Tie.REVOTE),
        "parity=false": replace(preset, parity=False),
        "last_words=false": replace(preset, last_words=False),
        "wolf_talks=0": replace(preset, wolf_talks=0),
        "talks=0": replace(preset, talks=0),
        "talks=2": replace(preset, talks=2),
        "rounds=3": replace(preset, rounds=3),
    }


def without_powers(preset: Rules) -> Rules:
    """Return a game of as many players and wolves, in which all others are villagers who mute."""
    return Rules(
        werewolves=preset.werewolves,
        villagers=len(preset.players) - preset.werewolves,
        seer=False,
        witch=False,
        hunter=False,
        wolf_talks=0,
        talks=0,
        last_words=False,
        rounds=len(preset.players),
    )


def wolves_win_by_recursion(wolves: int, others: int) -> float:
    """Return W(wolves, others), the chance that the wolves win from before a night on."""
    others -= 1
    if wolves >= others:
        return 1.0
    lynched_wolf = _after_a_lynching(wolves - 1, others)
    lynched_other = _after_a_lynching(wolves, others - 1)
    return (wolves * lynched_wolf + others * lynched_other) / (wolves + others)


def _after_a_lynching(wolves: int, others: int) -> float:
    if wolves == 0:
        return 0.0
    return 1.0 if wolves >= others else wolves_win_by_recursion(wolves, others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matchup:
    """A row: games by one set of rules between two named players."""

    preset: str
    rule: str
    rules: Rules
    village: str
    wolves: str
    games: int


@dataclass(frozen=True, slots=True)
class Wins:
    """How games of a row ended."""

    wolves: int = 0
    village: int = 0
    truncated: int = 0
    illegal: int = 0
    """Answers against the rules, which scripted players never give."""

    def __add__(self, other: Wins) -> Wins:
        """Return the sum."""
        return Wins(
            self.wolves + other.wolves,
            self.village + other.village,
            self.truncated + other.truncated,
            self.illegal + other.illegal,
        )


def matchups(share: int) -> list[Matchup]:
    """Return all rows, each with one in ``share`` of the games."""
    rows = []
    for preset, rules in PRESETS.items():
        of_rules = [
            (AS_SET, rules, PRESET_GAMES),
            *((rule, changed, RULE_GAMES) for rule, changed in other_rules(rules).items()),
        ]
        rows += [
            Matchup(
                preset=preset,
                rule=rule,
                rules=played,
                village=village,
                wolves=wolves,
                games=games // share,
            )
            for rule, played, games in of_rules
            for village, wolves in PAIRS
        ]
        rows.append(
            Matchup(
                preset=preset,
                rule=CLOSED_FORM,
                rules=without_powers(rules),
                village="uniform",
                wolves="uniform",
                games=RECURSION_GAMES // share,
            )
        )
    return rows


def play_games(row: Matchup, seeds: range) -> Wins:
    """Play the games of a row that have these seeds."""
    names = {Side.VILLAGE: row.village, Side.WOLVES: row.wolves}
    wins = Wins()
    for seed in seeds:
        game = Game(row.rules, seed=seed)
        play(game, {who: PLAYERS[names[role.side]]() for who, role in game.roles.items()})
        wins += Wins(
            wolves=int(game.winner is Side.WOLVES),
            village=int(game.winner is Side.VILLAGE),
            truncated=int(game.truncated),
            illegal=game.illegal.total(),
        )
    return wins


def play_all(rows: Sequence[Matchup], *, processes: int) -> list[Wins]:
    """Play all rows; how they are spread over processes changes nothing."""
    chunks = [
        (row, range(start, min(start + _CHUNK, row.games)))
        for row in rows
        for start in range(0, row.games, _CHUNK)
    ]
    totals = dict.fromkeys(rows, Wins())
    with ProcessPoolExecutor(processes) as pool:
        played = pool.map(play_games, *zip(*chunks, strict=True))
        for (row, _), wins in zip(chunks, played, strict=True):
            totals[row] += wins
    return [totals[row] for row in rows]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small version, under a minute")
    quick = parser.parse_args().quick
    rows = matchups(QUICK_SHARE if quick else 1)
    processes = os.cpu_count() or 1
    began = time.perf_counter()
    results = play_all(rows, processes=processes)
    minutes = (time.perf_counter() - began) / 60

    print(
        f"{'':11}{'rule':26}{'village':>15}{'wolves':>9}{'games':>7}"
        f"{'wolves win':>12}{'95 % interval':>17}{'village wins':>14}{'cut short':>11}"
    )
    table = []
    errors = {}
    for row, wins in zip(rows, results, strict=True):
        share = wilson_interval(successes=wins.wolves, trials=row.games)
        print(
            f"{row.preset:11}{row.rule:26}{row.village:>15}{row.wolves:>9}{row.games:7}"
            f"{share.mean:12.3f}{f'{share.low:.3f} – {share.high:.3f}':>17}"
            f"{wins.village / row.games:14.3f}{wins.truncated / row.games:11.3f}"
        )
        line: dict[str, object] = {
            "preset": row.preset,
            "rule": row.rule,
            "village": row.village,
            "wolves": row.wolves,
            "games": row.games,
            "wolves_win": asdict(share),
            "village_wins": wins.village / row.games,
            "truncated": wins.truncated / row.games,
        }
        if row.rule == CLOSED_FORM:
            exact = wolves_win_by_recursion(
                row.rules.werewolves, len(row.rules.players) - row.rules.werewolves
            )
            print(f"{'':11}{'by the recursion':26}{exact:43.3f}")
            line["by_recursion"] = exact
            errors[row.preset] = abs(share.mean - exact)
        table.append(line)
    games = sum(row.games for row in rows)
    print(f"{games} games in {minutes * 60:.0f} s, {processes} processes")
    report(
        "werewolves_baselines",
        figures={
            "games": games,
            "processes": processes,
            "illegal": sum(wins.illegal for wins in results),
            "rows": table,
        },
        bars={
            "minutes": Bar(minutes, "<=", 2.0),
            "seven_players_two_wolves_error": Bar(errors["7 players"], "<=", 0.01),
            "nine_players_three_wolves_error": Bar(errors["9 players"], "<=", 0.01),
        },
        keep=not quick,
    )


if __name__ == "__main__":
    main()

"""Every environment passes every check, those of PettingZoo and RLlib too."""

from __future__ import annotations

import subprocess
import sys

CHECKS = 20


def test_the_whole_table_is_green() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "astuner_gym.testing"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-4000:]
    header, *rows = run.stdout.splitlines()[: CHECKS + 1]
    assert header.split() == ["appworld", "gsm8k", "learn_to_ask", "werewolves"]
    outcomes = [row.split()[-4:] for row in rows]
    engine = outcomes[0][0]
    assert outcomes == [[engine, "ok", "ok", "ok"]] * CHECKS, run.stdout[-4000:]
    # AppWorld's engine has an environment of its own, which need not be there.
    assert engine == "ok" or "skipped\nenv=appworld needs" in run.stdout, run.stdout[-4000:]

"""Every environment passes every check, those of PettingZoo and RLlib too."""

from __future__ import annotations

import subprocess
import sys


def test_the_whole_table_is_green() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "astuner_gym.testing"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-4000:]
    table = run.stdout.splitlines()[-21:]
    assert table[0].split() == ["gsm8k", "learn_to_ask", "werewolves"]
    assert [line.split()[-2:] for line in table[1:]] == [["ok", "ok"]] * 20, run.stdout[-4000:]

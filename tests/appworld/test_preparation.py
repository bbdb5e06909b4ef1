"""The front of an executor fills the engine's caches, so that no world fills them for itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from astuner_envs.appworld.folders import ENGINE_SCRIPTS, engine_python
from astuner_envs.appworld.mini.scenarios import TRAINED
from tests.appworld.conftest import Stage

SCRIPT = Path(__file__).parent / "engine" / "cache_misses.py"


def test_a_world_finds_all_that_the_engine_keeps(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(stage.root / "open" / "data")
    episodes = tmp_path / "episodes.json"
    tasks = [f"{name}0_1" for name in TRAINED]
    episodes.write_text(json.dumps([(id_, stage.variants[id_].turns) for id_ in tasks]))
    command = [engine_python(None), SCRIPT, ENGINE_SCRIPTS, tmp_path, episodes]
    played = subprocess.run(command, capture_output=True, text=True, check=False)
    assert played.returncode == 0, played.stderr
    misses = json.loads(played.stdout.splitlines()[-1])
    assert set(misses.values()) == {0}, misses

"""``python -m astuner_envs.appworld.setup``: makes the mini world, unless it is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from astuner_envs.appworld.folders import (
    ENGINE_SCRIPTS,
    OPEN,
    SEALED,
    copy_without_ground_truth,
    engine_python,
    mini_world_folder,
)
from astuner_envs.appworld.mini.plan import plan
from astuner_gym.errors import AstunerError, SettingError


def build_mini_world(folder: Path, *, python: Path, scale: float = 1.0) -> None:
    """Build the mini world; ``folder`` appears whole or not at all.

    Args:
        folder: Gets ``open/data`` and ``sealed/data``.
        python: That has the engine.
        scale: Share of the scenarios of each kind; see :func:`.mini.plan.numbered_variants`.

    Raises:
        SettingError: The engine failed; what it said is printed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.partial{os.getpid()}")
    script = ENGINE_SCRIPTS / "build_world.py"
    try:
        built = subprocess.run(
            [python, script, partial / SEALED],
            input=json.dumps(plan(scale=scale)),
            text=True,
            check=False,
        )
        if built.returncode:
            raise SettingError(
                f"{script.name} must end with status 0, got {built.returncode}; "
                "rm -r .venvs/appworld, and run scripts/setup_appworld"
            )
        copy_without_ground_truth(partial / SEALED / "data", partial / OPEN / "data")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main() -> int:
    """Make the mini world; returns the exit status."""
    folder = mini_world_folder()
    if folder.is_dir():
        return 0
    print(f"building the mini world in {folder}, which takes minutes", file=sys.stderr)
    try:
        build_mini_world(folder, python=engine_python(None))
    except AstunerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

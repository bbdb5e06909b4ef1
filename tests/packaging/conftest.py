"""The wheel, built once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ["astuner_gym", "astuner_rl", "conf", "envs"]
SOURCES += ["pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: setuptools leaves build/ behind, whose stale files get into later wheels.
    copy = tmp_path_factory.mktemp("source")
    for source in SOURCES:
        if (ROOT / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, copy / source, ignore=ignored)
        else:
            shutil.copy(ROOT / source, copy / source)
    arguments = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir=out", "."]
    subprocess.run([sys.executable, "-m", "pip", *arguments], cwd=copy, check=True)
    (built,) = (copy / "out").glob("*.whl")
    return built

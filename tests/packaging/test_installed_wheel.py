"""Installed into an empty environment, the wheel trains from any folder, whatever lies there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL_MODEL = [
    "model.hidden_size=64",
    "model.layers=1",
    "model.demonstrations=200",
    "model.passes=1",
    "model.held_out=10",
    "model.cache=cache",
]
SHORT_RUN = [
    "train.steps=1",
    "train.groups=2",
    "train.group_size=2",
    "eval.tasks=4",
    "rollout.max_tokens=32",
]

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def executables(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input"]
    lock = ROOT / "requirements.lock"
    subprocess.run([*pip, f"--constraint={lock}", f"{wheel}[train]"], check=True)
    return environment / "bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("envs", "conf", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError(__file__)\n")
    return tmp_path


@pytest.mark.parametrize("command", [["astuner", "train"], ["python", "-m", "astuner_rl.train"]])
def test_it_trains_from_a_folder_that_has_its_own_envs_and_conf(
    executables: Path, folder: Path, command: list[str]
) -> None:
    program, *arguments = command
    settings = [*SMALL_MODEL, *SHORT_RUN, "run.dir=out"]
    subprocess.run([executables / program, *arguments, *settings], cwd=folder, check=True)
    metrics = (folder / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [0, 1]


def test_a_misspelt_setting_ends_with_status_2(executables: Path, folder: Path) -> None:
    command = [executables / "astuner", "train", "train.stps=1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no setting train.stps")
    assert sorted(path.name for path in folder.iterdir()) == ["conf", "envs", "tests"]

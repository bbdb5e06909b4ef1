"""Each run has a folder of its own, and a resumed run forgets what came after its checkpoint."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from astuner_gym.errors import UnusableInputError
from astuner_rl.tracing.metrics import MetricsLog, read_metrics
from astuner_rl.tracing.run_folder import (
    RunFolder,
    create_run_folder,
    make_run_folder,
    open_run_folder,
)

STARTED = datetime(2026, 3, 1, 14, 5, 59)


def create(cwd: Path, *, root: Path = Path("runs"), env: str = "gsm8k") -> RunFolder:
    return create_run_folder(root, cwd=cwd, env=env, algo="grpo", seed=3, started=STARTED)


def test_the_name_says_when_and_what(tmp_path: Path) -> None:
    folder = create(tmp_path)
    assert folder.path == tmp_path / "runs/2026-03-01/14-05-59-gsm8k-grpo-s3"
    assert folder.episodes.is_dir()
    assert folder.checkpoints.is_dir()


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    names = [create(tmp_path).path.name for _ in range(3)]
    name = "14-05-59-gsm8k-grpo-s3"
    assert names == [name, f"{name}-2", f"{name}-3"]


def test_no_two_concurrent_runs_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        paths = list(pool.map(lambda _: create(tmp_path).path, range(64)))
    assert len(set(paths)) == 64


@pytest.mark.parametrize(
    ("env", "part"), [("my/env", "my-env"), ("../../etc", "etc"), ("a b", "a-b"), ("..", "unnamed")]
)
def test_a_name_cannot_leave_the_folder_of_runs(tmp_path: Path, env: str, part: str) -> None:
    path = create(tmp_path, env=env).path
    assert path == tmp_path / f"runs/2026-03-01/14-05-59-{part}-grpo-s3"


def test_an_absolute_root_is_taken_as_it_is(tmp_path: Path) -> None:
    path = create(tmp_path / "elsewhere", root=tmp_path / "kept").path
    assert path.is_relative_to(tmp_path / "kept")


def test_a_root_that_cannot_be_written_is_unusable_input(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    with pytest.raises(UnusableInputError, match=r"set run\.dir"):
        create(tmp_path)


def test_a_folder_that_a_run_left_while_it_started_is_taken_again(tmp_path: Path) -> None:
    folder = make_run_folder(Path("run"), cwd=tmp_path)
    with folder.lock():
        (folder.path / "config.yaml.partial").write_text("seed:")
    assert make_run_folder(Path("run"), cwd=tmp_path) == folder


@pytest.mark.parametrize("held", ["config.yaml", "episodes/step-000000.jsonl.gz", "notes/a.txt"])
def test_a_folder_that_holds_more_is_not(tmp_path: Path, held: str) -> None:
    folder = make_run_folder(Path("run"), cwd=tmp_path)
    (folder.path / held).parent.mkdir(exist_ok=True)
    (folder.path / held).touch()
    with pytest.raises(UnusableInputError, match=r"run\.dir must name a new or an empty folder"):
        make_run_folder(Path("run"), cwd=tmp_path)


def test_a_run_is_opened_again(tmp_path: Path) -> None:
    folder = create(tmp_path)
    folder.config.write_text("seed: 3\n")
    relative = folder.path.relative_to(tmp_path)
    assert open_run_folder(relative, cwd=tmp_path) == folder


def test_a_folder_without_a_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match=r"holds config\.yaml"):
        open_run_folder(tmp_path, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_episode_files_are_named_by_step_and_phase(tmp_path: Path) -> None:
    folder = create(tmp_path)
    files = [
        folder.episode_file(phase="eval/test", step=12),
        folder.episode_file(phase="train", step=1_000_000),
        folder.episode_file(phase="train", step=12),
    ]
    for file in files:
        file.touch()
    (folder.episodes / "notes.txt").touch()
    assert [file.name for file in folder.episode_files()] == [
        "step-000012-eval-test.jsonl.gz",
        "step-000012.jsonl.gz",
        "step-1000000.jsonl.gz",
    ]


def test_sets_whose_names_look_alike_in_a_file_name_have_logs_of_their_own(tmp_path: Path) -> None:
    folder = create(tmp_path)
    names = ["hard cases", "hard-cases", "hard/cases", "hard_cases"]
    files = [folder.episode_file(phase=f"eval/{name}", step=1) for name in names]
    assert [file.name for file in files[1::2]] == [
        "step-000001-eval-hard-cases.jsonl.gz",
        "step-000001-eval-hard_cases.jsonl.gz",
    ]
    assert len({*files}) == 4
    for file in files:
        file.touch()
    assert sorted(folder.episode_files()) == sorted(files)


def test_rewinding_forgets_later_steps_and_torn_files(tmp_path: Path) -> None:
    folder = create(tmp_path)
    with MetricsLog(folder.metrics) as log:
        for step in range(4):
            log.append(step, {"reward/mean": step / 2})
            folder.episode_file(phase="train", step=step).touch()
    folder.episode_file(phase="eval/test", step=3).touch()
    (folder.episodes / "step-000001.jsonl.gz.partial").touch()
    with folder.metrics.open("a") as file:
        file.write('{"step": 4, "rewa')

    folder.rewind(last_step=1)

    assert [line.step for line in read_metrics(folder.metrics)] == [0, 1]
    assert folder.metrics.read_text().endswith("}\n")
    assert sorted(path.name for path in folder.episodes.iterdir()) == [
        "step-000000.jsonl.gz",
        "step-000001.jsonl.gz",
    ]


def test_rewinding_a_run_that_recorded_nothing_does_nothing(tmp_path: Path) -> None:
    folder = create(tmp_path)
    folder.rewind(last_step=0)
    assert not folder.metrics.exists()


def test_the_wandb_run_is_remembered(tmp_path: Path) -> None:
    folder = create(tmp_path)
    assert folder.wandb_run_id() is None
    folder.keep_wandb_run_id("4f2a91c0")
    assert folder.wandb_run_id() == "4f2a91c0"


def _try_to_lock(path: Path) -> str:
    try:
        with RunFolder(path).lock():
            return "locked"
    except UnusableInputError as error:
        return str(error)


def test_only_one_run_writes_a_folder(tmp_path: Path) -> None:
    folder = create(tmp_path)
    with folder.lock():
        assert "only one process may write a run folder" in _try_to_lock(folder.path)
    assert _try_to_lock(folder.path) == "locked"


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    folder = create(tmp_path)
    program = (
        "import sys; from pathlib import Path; from astuner_rl.tracing.run_lock import run_lock\n"
        "with run_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(folder.path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert f"process {holder.pid} does" in _try_to_lock(folder.path)
        holder.kill()
    assert _try_to_lock(folder.path) == "locked"

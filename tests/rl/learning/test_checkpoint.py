"""A checkpoint is whole or not there, whatever moment the process dies at."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from astuner_rl.errors import CheckpointError
from astuner_rl.learning.checkpoint import (
    CheckpointMeta,
    clean_checkpoints,
    drop_checkpoints_after,
    keep_newest,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)


class Killed(BaseException):
    """Ends the process under test where it is: no handler may tidy up after it."""


def write_model(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")


def save(
    folder: Path,
    step: int,
    *,
    state: dict[str, object] | None = None,
    save_model: Callable[[Path], None] = write_model,
) -> Path:
    return save_checkpoint(
        folder,
        save_model=save_model,
        state={"step": step} if state is None else state,
        meta=CheckpointMeta(step=step, seed=7, versions={"torch": "2"}, config_hash="abc"),
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    weights = torch.tensor([1.5, -2.0])
    state = {"optimizer": {"state": {0: {"exp_avg": weights}}, "lr": 1e-3}, "seen": [1, 2]}

    path = save(tmp_path, 40, state=state)
    checkpoint = load_checkpoint(path)

    assert path == tmp_path / "step-000040"
    assert checkpoint.meta == CheckpointMeta(
        step=40, seed=7, versions={"torch": "2"}, config_hash="abc"
    )
    assert (checkpoint.model / "model.safetensors").read_bytes() == b"weights"
    optimizer = checkpoint.state["optimizer"]
    assert isinstance(optimizer, dict)
    assert torch.equal(optimizer["state"][0]["exp_avg"], weights)
    assert checkpoint.state["seen"] == [1, 2]


def test_checksums_are_in_the_format_of_sha256sum(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=path, check=True)
    listed = [line.split("  ")[1] for line in (path / "SHA256SUMS").read_text().splitlines()]
    assert listed == ["hf/config.json", "hf/model.safetensors", "learner.pt", "meta.json"]


def test_the_latest_checkpoint_has_the_most_steps(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    save(tmp_path, 1_000_000)  # seven digits, which sort by number and not as text
    save(tmp_path, 999_999)
    assert latest_checkpoint(tmp_path) == tmp_path / "step-1000000"


FILES = ["hf/config.json", "hf/model.safetensors", "learner.pt", "meta.json", "SHA256SUMS"]


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [cut_in_half, flip_a_bit, Path.unlink])
def test_a_damaged_checkpoint_is_named_and_passed_over(
    tmp_path: Path, file: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    whole = save(tmp_path, 1)
    torn = save(tmp_path, 2)
    damage(torn / file)

    assert latest_checkpoint(tmp_path) == whole
    (record,) = caplog.records
    assert f"{torn} is damaged and passed over" in record.getMessage()
    with pytest.raises(CheckpointError, match="must be whole"):
        load_checkpoint(torn)


def test_a_file_that_was_added_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / "hf" / "modeling.py").write_text("print()")
    with pytest.raises(CheckpointError, match=r"modeling\.py"):
        load_checkpoint(path)


def test_an_absent_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="step-000009"):
        load_checkpoint(tmp_path / "step-000009")


def run_killed_at(
    monkeypatch: pytest.MonkeyPatch, operation: int, action: Callable[[], object]
) -> bool:
    """Run ``action``, killing it before its n-th disk operation; return whether it was killed."""
    left = operation

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return original(*args, **options)

        return call

    with monkeypatch.context() as patch:
        for owner, name in (
            (os, "fsync"),
            (os, "unlink"),
            (os, "rmdir"),
            (Path, "mkdir"),
            (Path, "rename"),
            (Path, "write_text"),
            (torch, "save"),
        ):
            patch.setattr(owner, name, counted(vars(owner)[name]))
        try:
            action()
        except Killed:
            return True
    return False


def test_a_save_killed_at_any_operation_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for operation in range(100):
        folder = tmp_path / str(operation)
        folder.mkdir()
        save(folder, 1)
        killed = run_killed_at(monkeypatch, operation, lambda at=folder: save(at, 2))

        clean_checkpoints(folder)
        latest = latest_checkpoint(folder)
        assert latest is not None
        outcomes.append(load_checkpoint(latest).state["step"])
        assert names(folder) == ["step-000001", "step-000002"][: outcomes[-1]]
        if not killed:
            break
    else:
        pytest.fail("the save never came to its end")
    assert len(outcomes) > 10
    assert outcomes == sorted(outcomes), "the new checkpoint appears at one operation"
    assert set(outcomes) == {1, 2}


def test_a_replacement_killed_at_any_operation_leaves_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for operation in range(100):
        folder = tmp_path / str(operation)
        folder.mkdir()
        save(folder, 5, state={"value": "old"})
        killed = run_killed_at(
            monkeypatch, operation, lambda at=folder: save(at, 5, state={"value": "new"})
        )

        clean_checkpoints(folder)
        assert names(folder) == ["step-000005"]
        outcomes.append(load_checkpoint(folder / "step-000005").state["value"])
        if not killed:
            break
    else:
        pytest.fail("the save never came to its end")
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {"old", "new"}


def test_a_deletion_killed_at_any_operation_leaves_no_part_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for operation in range(100):
        folder = tmp_path / str(operation)
        folder.mkdir()
        for step in (1, 2, 3):
            save(folder, step)
        killed = run_killed_at(monkeypatch, operation, lambda at=folder: keep_newest(at, count=1))

        for path in folder.glob("step-*"):
            load_checkpoint(path)
        clean_checkpoints(folder)
        keep_newest(folder, count=1)
        assert names(folder) == ["step-000003"]
        if not killed:
            break
    else:
        pytest.fail("the deletion never came to its end")


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_full_disk_is_reported_with_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    save(tmp_path, 1, state={"value": "kept"})
    with monkeypatch.context() as patch:
        patch.setattr(Path if failing == "rename" else os, failing, no_space)
        with pytest.raises(CheckpointError, match=r"No space left on device.*kept step-000001"):
            save(tmp_path, 2)
    assert names(tmp_path) == ["step-000001"]
    assert load_checkpoint(tmp_path / "step-000001").state == {"value": "kept"}


def test_a_failed_replacement_puts_the_former_checkpoint_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def only_aside(path: Path, target: Path) -> Path:
        if path.name.startswith(".partial-"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    save(tmp_path, 1, state={"value": "former"})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", only_aside)
        with pytest.raises(CheckpointError, match="kept step-000001"):
            save(tmp_path, 1, state={"value": "later"})
    assert load_checkpoint(tmp_path / "step-000001").state == {"value": "former"}


def test_a_model_that_cannot_be_saved_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        write_model(folder)
        raise RuntimeError("shared tensors")

    with pytest.raises(CheckpointError, match=r"shared tensors.*kept none"):
        save(tmp_path, 1, save_model=broken)
    assert names(tmp_path) == []


def test_a_state_that_could_not_be_loaded_is_refused_when_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="kept none"):
        save(tmp_path, 1, state={"task": tmp_path})  # weights_only=True admits no Path
    assert names(tmp_path) == []


def test_a_state_that_runs_code_is_not_loaded(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch '{tmp_path / 'ran'}'",)

    path = save(tmp_path, 1)
    torch.save({"payload": Payload()}, path / "learner.pt")
    with (path / "SHA256SUMS").open("w") as sums:
        subprocess.run(["sha256sum", *FILES[:-1]], cwd=path, stdout=sums, check=True)
    with pytest.raises(CheckpointError, match="must be readable"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        save(tmp_path, step)
    keep_newest(tmp_path, count=2)
    assert names(tmp_path) == ["step-000010", "step-000011"]
    keep_newest(tmp_path, count=5)
    assert names(tmp_path) == ["step-000010", "step-000011"]
    with pytest.raises(ValueError, match="count must be >= 1"):
        keep_newest(tmp_path, count=0)


def test_resuming_drops_later_checkpoints(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    (tmp_path / "step-000003" / "learner.pt").unlink()
    drop_checkpoints_after(tmp_path, last_step=1)
    assert names(tmp_path) == ["step-000001"]


def test_cleaning_leaves_whole_checkpoints_alone(tmp_path: Path) -> None:
    save(tmp_path, 1)
    shutil.copytree(tmp_path / "step-000001", tmp_path / ".partial-step-000002")
    shutil.copytree(tmp_path / "step-000001", tmp_path / ".deleted-step-000000")
    shutil.copytree(tmp_path / "step-000001", tmp_path / ".replaced-step-000001")
    clean_checkpoints(tmp_path)
    assert names(tmp_path) == ["step-000001"]

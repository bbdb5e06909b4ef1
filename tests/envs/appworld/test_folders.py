"""The copy of AppWorld's data that executors read."""

from __future__ import annotations

from pathlib import Path

import pytest

from astuner_envs.appworld.folders import DataFolders
from astuner_gym.errors import SettingError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder with one task."""
    monkeypatch.setenv("ASTUNER_CACHE", str(tmp_path / "cache"))
    truth = tmp_path / "root" / "data" / "tasks" / "a_1" / "ground_truth"
    truth.mkdir(parents=True)
    (truth / "answer.json").write_text("4")
    (truth.parent / "specs.json").write_text("first")
    return tmp_path / "root"


def test_the_copy_has_all_but_the_ground_truth_and_is_made_once(root: Path) -> None:
    folders = DataFolders.of_root(root)
    assert folders.sealed == root / "data"
    copied = [path.name for path in folders.open.rglob("*")]
    assert sorted(copied) == ["a_1", "specs.json", "tasks"]
    (root / "data" / "tasks" / "a_1" / "ground_truth" / "answer.json").write_text("5")
    assert DataFolders.of_root(root) == folders
    assert [path for path in folders.open.parent.iterdir() if path != folders.open] == []


def test_data_that_are_made_anew_are_copied_anew(root: Path) -> None:
    before = DataFolders.of_root(root).open
    specification = root / "data" / "tasks" / "a_1" / "specs.json"
    specification.unlink()
    specification.write_text("second")
    after = DataFolders.of_root(root).open
    assert (before / "tasks" / "a_1" / "specs.json").read_text() == "first"
    assert (after / "tasks" / "a_1" / "specs.json").read_text() == "second"


def test_a_copy_that_cannot_be_made_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("astuner_envs.appworld.folders.copy_without_ground_truth", full)
    with pytest.raises(SettingError, match=r"got .*No space left on device; make room"):
        DataFolders.of_root(root)
    assert list((tmp_path / "cache" / "appworld").iterdir()) == []

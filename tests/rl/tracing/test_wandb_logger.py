"""W&B is a display: it goes on where a run was, keeps secrets, and never ends a run."""

from __future__ import annotations

import subprocess
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import wandb

from astuner_rl.tracing.logger import SilentLogger
from astuner_rl.tracing.run_folder import RunFolder, create_run_folder
from astuner_rl.tracing.wandb_logger import LoggerMode, WandbLogger, open_logger


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    started = datetime(2026, 3, 1, 14, 5, 59)
    return create_run_folder(
        Path("runs"), cwd=tmp_path, env="gsm8k", algo="grpo", seed=0, started=started
    )


class ScriptedRun:
    """Stands for a W&B run; fails at the call that it is told to."""

    def __init__(self, *, failing: str = "") -> None:
        self.failing = failing
        self.calls: list[tuple[str, Any]] = []

    def log(self, figures: dict[str, float]) -> None:
        self._record("log", figures)

    def finish(self, *, exit_code: int) -> None:
        self._record("finish", exit_code)

    def _record(self, name: str, value: object) -> None:
        self.calls.append((name, value))
        if name == self.failing:
            raise ConnectionError(f"key-123 could not {name}")


def start_logger(run: ScriptedRun) -> WandbLogger:
    return WandbLogger(lambda: run)  # type: ignore[arg-type, return-value]


def test_the_step_is_a_figure_of_its_own() -> None:
    run = ScriptedRun()
    logger = start_logger(run)
    logger.log(7, {"reward/mean": 0.5})
    logger.close(failed=True)
    assert run.calls == [("log", {"step": 7, "reward/mean": 0.5}), ("finish", 1)]


@pytest.mark.parametrize("failing", ["start", "log", "finish"])
def test_a_failure_is_warned_of_once_without_the_key(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "key-123")
    run = ScriptedRun(failing=failing)

    def start() -> Any:
        run._record("start", None)
        return run

    with pytest.warns(UserWarning, match=f"W&B failed to {failing}") as caught:
        logger = WandbLogger(start)
        logger.log(0, {})
        logger.log(1, {})
        logger.close(failed=False)
    assert len(caught) == 1
    assert "key-123" not in str(caught[0].message)
    assert "[redacted]" in str(caught[0].message)
    assert [name for name, _ in run.calls].count(failing) == 1


def test_a_disabled_logger_leaves_no_trace(folder: RunFolder) -> None:
    logger = open_logger(folder, mode=LoggerMode.DISABLED, project="p", config={})
    logger.log(0, {})
    logger.close(failed=False)
    assert isinstance(logger, SilentLogger)
    assert folder.wandb_run_id() is None
    assert not (folder.path / "wandb").exists()


def test_wandb_is_not_imported_before_it_is_used() -> None:
    program = "import sys, astuner_rl.tracing.wandb_logger; sys.exit('wandb' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_offline_run_resumes_under_the_same_id_and_holds_no_secret(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    config = {"seed": 3, "judge": {"api_key": "sk-secret"}}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for step in (0, 1):
            logger = open_logger(
                folder, mode=LoggerMode.OFFLINE, project="p", config=config, group="sweep"
            )
            logger.log(step, {"reward/mean": 0.5})
            logger.close(failed=False)
    wandb.teardown()  # as the end of the process does: W&B's own process writes the files' ends

    files = sorted((folder.path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    run_id = folder.wandb_run_id()
    assert run_id is not None
    for file in files:
        assert file.name == f"run-{run_id}.wandb"
        content = file.read_bytes()
        for text in (run_id, "sweep", folder.path.name, "reward/mean"):
            assert text.encode() in content
    kept = b"".join(path.read_bytes() for path in folder.path.rglob("*") if path.is_file())
    printed = "".join(capfd.readouterr())
    for secret in ("sk-secret", "0123456789" * 4):
        assert secret.encode() not in kept
        assert secret not in printed

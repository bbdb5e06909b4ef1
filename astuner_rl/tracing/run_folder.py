"""The folder that holds everything of one run.

::

    runs/2026-03-01/14-05-59-gsm8k-grpo-s0/
        config.yaml         the run's whole configuration
        metrics.jsonl       one JSON object a step
        episodes/           step-000012.jsonl.gz, step-000012-eval-test.jsonl.gz
        checkpoints/        step-000040/
        services/           logs of what the environment started, if it needs services
        report.html
        wandb_run_id        the W&B run that a resumed run goes on with
        lock                held by the process that writes the folder
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final

from astuner_gym.errors import UnusableInputError
from astuner_rl.tracing.atomic_file import PARTIAL_SUFFIX, sync_folder, write_atomically
from astuner_rl.tracing.metrics import drop_metrics_after
from astuner_rl.tracing.run_lock import run_lock

_LOCK: Final = "lock"
_UNSAFE_IN_NAME: Final = re.compile(r"[^A-Za-z0-9_.]+")
_EPISODE_FILE: Final = re.compile(r"step-(?P<step>\d{6,})(-.+)?\.jsonl(\.gz)?")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where each part of a run lies; see the module for the layout."""

    path: Path
    """Absolute."""

    @property
    def config(self) -> Path:
        """The run's whole configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a step."""
        return self.path / "metrics.jsonl"

    @property
    def episodes(self) -> Path:
        """Folder of the token-level episode logs."""
        return self.path / "episodes"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def services(self) -> Path:
        """Folder of the logs of the environment's services."""
        return self.path / "services"

    @property
    def report(self) -> Path:
        """The run as a web page."""
        return self.path / "report.html"

    def episode_file(self, *, phase: str, step: int) -> Path:
        """Return the log of the episodes of ``phase`` that the policy of ``step`` played."""
        kind, _, name = phase.partition("/")
        suffix = "" if phase == "train" else f"-{kind}" + (name and f"-{_distinct_part(name)}")
        return self.episodes / f"step-{step:06d}{suffix}.jsonl.gz"

    def episode_files(self) -> list[Path]:
        """Return the episode logs there are, by step and then by name."""
        steps = {path: _step_of(path) for path in self.episodes.iterdir()}
        logs = sorted((step, path) for path, step in steps.items() if step is not None)
        return [path for _, path in logs]

    def lock(self) -> AbstractContextManager[None]:
        """Hold the folder while the block runs, so that no other process writes it.

        Raises:
            UnusableInputError: Another process holds it.
        """
        return run_lock(self.path / _LOCK)

    def rewind(self, *, last_step: int) -> None:
        """Forget what was recorded after ``last_step``, to resume from the checkpoint of that step.

        Metrics and episodes of later steps go, and so does every half-written line and file; what
        is kept is untouched. Call it under :meth:`lock`.
        """
        drop_metrics_after(self.metrics, last_step=last_step)
        for path in self.episodes.iterdir():
            step = _step_of(path)
            if path.name.endswith(PARTIAL_SUFFIX) or (step is not None and step > last_step):
                path.unlink()
        sync_folder(self.episodes)

    def wandb_run_id(self) -> str | None:
        """Return the W&B run that this run logs to, None where it has none yet."""
        try:
            return self._wandb_run_id_path.read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def keep_wandb_run_id(self, run_id: str) -> None:
        """Remember the W&B run that this run logs to."""
        write_atomically(self._wandb_run_id_path, f"{run_id}\n".encode())

    @property
    def _wandb_run_id_path(self) -> Path:
        return self.path / "wandb_run_id"


def create_run_folder(
    root: Path, *, cwd: Path, env: str, algo: str, seed: int, started: datetime
) -> RunFolder:
    """Make a new folder ``<root>/<date>/<time>-<env>-<algo>-s<seed>``.

    Two runs that start in the same second get two folders: the second one's name ends in ``-2``.

    Args:
        root: Where runs are kept.
        cwd: Folder in which the command was given; a relative ``root`` is taken from there.
        env: Name of the environment.
        algo: Name of the algorithm.
        seed: The run's seed.
        started: Names the folder; nothing else of a run depends on the clock.

    Raises:
        UnusableInputError: The folder cannot be made.
    """
    name = f"{started:%H-%M-%S}-{_file_name_part(env)}-{_file_name_part(algo)}-s{seed}"
    day = cwd.absolute() / root / f"{started:%Y-%m-%d}"
    try:
        day.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(_make_first_free(day, name))
        _make_parts(folder)
    except OSError as error:
        raise UnusableInputError(
            f"{day}: a run needs a folder that it may write, {error}; set run.dir to another"
        ) from error
    return folder


def make_run_folder(path: Path, *, cwd: Path) -> RunFolder:
    """Make the run folder that the user named; it may exist if it holds nothing of a run.

    Raises:
        UnusableInputError: It holds something already, or cannot be made.
    """
    folder = RunFolder(cwd.absolute() / path)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        if not all(_is_rubbish(path) for path in folder.path.iterdir()):
            raise UnusableInputError(
                f"run.dir must name a new or an empty folder, {folder.path} holds files; "
                f"go on with that run by run.resume={folder.path}, or name another folder"
            )
        _make_parts(folder)
    except OSError as error:
        raise UnusableInputError(
            f"{folder.path}: a run needs a folder that it may write, {error}; set run.dir to "
            "another"
        ) from error
    return folder


def open_run_folder(path: Path, *, cwd: Path) -> RunFolder:
    """Return the folder of an earlier run, to resume or to read it.

    Raises:
        UnusableInputError: There is no run in that folder.
    """
    folder = RunFolder(cwd.absolute() / path)
    if not folder.config.is_file():
        raise UnusableInputError(
            f"{folder.path}: a run folder holds config.yaml, this one does not; "
            "name the folder <date>/<time>-<env>-<algo>-s<seed> of the run"
        )
    _make_parts(folder)
    return folder


def _make_first_free(parent: Path, name: str) -> Path:
    for number in count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()  # fails if it exists, so two processes cannot both get it
        except FileExistsError:
            continue
        return path
    raise AssertionError("count() is endless")


def _make_parts(folder: RunFolder) -> None:
    folder.episodes.mkdir(exist_ok=True)
    folder.checkpoints.mkdir(exist_ok=True)


def _is_rubbish(path: Path) -> bool:
    """Return whether a path in a run folder may be what a run left that died while it started."""
    if path.is_dir():
        return path.name in ("episodes", "checkpoints") and not any(path.iterdir())
    return path.name == _LOCK or path.name.endswith(PARTIAL_SUFFIX)


def _file_name_part(name: str) -> str:
    return _UNSAFE_IN_NAME.sub("-", name).strip("-.") or "unnamed"


def _distinct_part(name: str) -> str:
    """Return a file name's part that no other name has."""
    part = _file_name_part(name)
    return part if part == name else f"{part}-{sha256(name.encode()).hexdigest()[:8]}"


def _step_of(episode_file: Path) -> int | None:
    match = _EPISODE_FILE.fullmatch(episode_file.name)
    return int(match["step"]) if match else None

"""Checkpoints that are whole or not there at all.

::

    checkpoints/
        step-000040/
            hf/           what ``save_model`` wrote: a Hugging Face folder, usable on its own
            adapter/      what LoRA has trained, for ``peft``; only where adapters are trained
            learner.pt    the learner's state: optimizer, schedules, generators, …
            meta.json     step, seed, versions, hash of the configuration
            SHA256SUMS    a checksum of every other file; ``sha256sum --check`` reads it
        .partial-step-000041/     still being written; rubbish once its process is dead
        .replaced-step-000040/    the former folder of a step that is being saved again
        .deleted-step-000030/     being deleted

A folder gets its ``step-…`` name by one rename, after every byte in it was synced to the disk. So a
process may die at any moment, and the newest whole checkpoint is still found.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import torch

from astuner_rl.errors import CheckpointError
from astuner_rl.tracing.atomic_file import sync_folder

logger = logging.getLogger(__name__)

_STEP_NAME: Final = re.compile(r"step-(\d{6,})")
_PARTIAL: Final = ".partial-"
_REPLACED: Final = ".replaced-"
_DELETED: Final = ".deleted-"
_MODEL: Final = "hf"
_STATE: Final = "learner.pt"
_META: Final = "meta.json"
_CHECKSUMS: Final = "SHA256SUMS"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointMeta:
    """What a checkpoint is of."""

    step: int
    """Number of updates that the policy had seen."""
    seed: int
    versions: Mapping[str, str]
    """Version by package, of everything that the bits of a run depend on."""
    config_hash: str
    """Names the configuration of the run; a resumed run must have the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint, read back."""

    model: Path
    """The Hugging Face folder: weights, configuration and tokenizer."""
    state: Mapping[str, object]
    """What was given to :func:`save_checkpoint`, on the CPU."""
    meta: CheckpointMeta


def save_checkpoint(
    folder: Path,
    *,
    save_model: Callable[[Path], None],
    state: Mapping[str, object],
    meta: CheckpointMeta,
) -> Path:
    """Write ``<folder>/step-<step>`` and return it; a checkpoint of that step is replaced.

    Args:
        folder: The run's folder of checkpoints; must exist.
        save_model: Writes model and tokenizer into the empty folder it is given.
        state: The learner's state: tensors, numbers, text, and lists and dicts of them.
        meta: What the checkpoint is of.

    Raises:
        CheckpointError: It could not be written, or could not be loaded again; the message names
            the checkpoint that was kept. Nothing half-written is left.
    """
    name = _step_name(meta.step)
    partial = folder / (_PARTIAL + name)
    try:
        _remove(partial)
        partial.mkdir()
        _write_contents(partial, save_model=save_model, state=state, meta=meta)
        _sync_tree(partial)
        _put_in_place(partial, folder / name)
    except Exception as error:  # save_model, torch and safetensors each raise their own types
        free = shutil.disk_usage(folder).free
        shutil.rmtree(partial, ignore_errors=True)
        kept = latest_checkpoint(folder)
        raise CheckpointError(
            f"{folder / name}: a checkpoint must be written whole, got {error!r} with "
            f"{free // 2**20} MiB free on that disk; kept {kept.name if kept else 'none'}: "
            "mend the cause and resume the run"
        ) from error
    return folder / name


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, verifying every byte.

    Args:
        path: A folder that :func:`save_checkpoint` returned.

    Raises:
        CheckpointError: It is absent, torn or altered.
    """
    defect = _defect(path)
    if defect:
        raise CheckpointError(
            f"{path}: a checkpoint must be whole, {defect}; resume from another one"
        )
    try:
        meta = CheckpointMeta(**json.loads((path / _META).read_text(encoding="utf-8")))
        state = _load_state(path / _STATE)
    except (TypeError, ValueError, RuntimeError, UnpicklingError) as error:
        raise CheckpointError(
            f"{path}: a checkpoint must be readable by these versions: {error}"
        ) from error
    return Checkpoint(model=path / _MODEL, state=state, meta=meta)


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the checkpoint folders by step; whether they are whole is not looked at."""
    found = (path for path in folder.iterdir() if _STEP_NAME.fullmatch(path.name))
    return sorted(found, key=_step_of)


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the whole checkpoint with the most steps, None where there is none.

    Damaged ones are passed over with a warning; every byte of the one returned was verified.
    """
    for path in reversed(checkpoint_folders(folder)):
        defect = _defect(path)
        if not defect:
            return path
        logger.warning("%s is damaged and passed over: %s", path, defect)
    return None


def keep_newest(folder: Path, *, count: int) -> None:
    """Delete all but the ``count`` checkpoints with the most steps."""
    if count < 1:
        raise ValueError(f"count must be >= 1 to keep a checkpoint at all, got {count}")
    for path in checkpoint_folders(folder)[:-count]:
        _delete(path)


def clean_checkpoints(folder: Path) -> None:
    """Put a folder in order before a run starts or resumes: call it first of all.

    What a dead process left half-written or half-deleted goes; a checkpoint whose replacement was
    never finished comes back.
    """
    for path in folder.glob(f"{_REPLACED}*"):
        original = path.with_name(path.name.removeprefix(_REPLACED))
        if original.exists():
            _remove(path)
        else:
            path.rename(original)
    for prefix in (_PARTIAL, _DELETED):
        for path in folder.glob(f"{prefix}*"):
            _remove(path)
    sync_folder(folder)


def drop_checkpoints_after(folder: Path, *, last_step: int) -> None:
    """Delete the checkpoints of later steps, torn ones included, to resume from ``last_step``."""
    for path in checkpoint_folders(folder):
        if _step_of(path) > last_step:
            _delete(path)


def _write_contents(
    target: Path,
    *,
    save_model: Callable[[Path], None],
    state: Mapping[str, object],
    meta: CheckpointMeta,
) -> None:
    (target / _MODEL).mkdir()
    save_model(target / _MODEL)
    torch.save(dict(state), target / _STATE)
    # A state that cannot be read back must fail now, not when the run is resumed.
    _load_state(target / _STATE, mapped=True)
    (target / _META).write_text(json.dumps(asdict(meta), indent=2) + "\n", encoding="utf-8")
    sums = [f"{_sha256(target / name)}  {name}\n" for name in _file_names(target)]
    (target / _CHECKSUMS).write_text("".join(sums), encoding="utf-8")


def _put_in_place(partial: Path, final: Path) -> None:
    replaced = final.with_name(_REPLACED + final.name)
    if final.exists():
        _remove(replaced)
        final.rename(replaced)
    try:
        partial.rename(final)
    except OSError:
        if replaced.exists():
            replaced.rename(final)
        raise
    sync_folder(final.parent)
    _remove(replaced)


def _delete(path: Path) -> None:
    """Delete a checkpoint; it is renamed first, so it is never there in part."""
    deleted = path.with_name(_DELETED + path.name)
    _remove(deleted)
    path.rename(deleted)
    sync_folder(path.parent)
    _remove(deleted)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _defect(path: Path) -> str:
    """Say what keeps a checkpoint from being whole, empty if nothing does."""
    try:
        lines = (path / _CHECKSUMS).read_text(encoding="utf-8").splitlines()
        expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        names = _file_names(path)
        if missing := {_STATE, _META, *expected} - set(names):
            return f"it lacks {sorted(missing)}"
        if altered := [name for name in names if _sha256(path / name) != expected.get(name)]:
            return f"its checksums do not hold for {altered}"
    except (OSError, UnicodeDecodeError) as error:
        return f"it cannot be read: {error}"
    return ""


def _load_state(path: Path, *, mapped: bool = False) -> Mapping[str, object]:
    """Read a state; ``mapped`` leaves the tensors' bytes on the disk until they are looked at."""
    state: Mapping[str, object] = torch.load(
        path, map_location="cpu", weights_only=True, mmap=mapped
    )
    return state


def _file_names(folder: Path) -> list[str]:
    """Return the files of a checkpoint but its checksums, relative to it, sorted."""
    files = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in files)
    return sorted(name for name in names if name != _CHECKSUMS)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_tree(folder: Path) -> None:
    """Sync every file and folder, a folder after what it holds."""
    for path in folder.iterdir():
        if path.is_dir():
            _sync_tree(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def _step_of(path: Path) -> int:
    match = _STEP_NAME.fullmatch(path.name)
    assert match, path
    return int(match[1])


def _step_name(step: int) -> str:
    return f"step-{step:06d}"

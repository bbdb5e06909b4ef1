"""Files that are either whole or as they were before, whatever moment a process dies at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

PARTIAL_SUFFIX: Final = ".partial"
"""Ends the name of a file still being written; what a dead process left under it is rubbish."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``; it outlives a power cut once this returns.

    The bytes go to a neighbour file, which is synced and then renamed over ``path``. Only one
    process may write a path at a time: see :mod:`astuner_rl.tracing.run_lock`.

    Raises:
        OSError: The disk is full or the folder is not writable; ``path`` is as it was.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames, creations and removals in ``folder`` outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

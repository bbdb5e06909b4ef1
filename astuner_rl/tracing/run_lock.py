"""One writer a run folder: an advisory lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astuner_gym.errors import UnusableInputError


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    The kernel frees the lock when its process ends, however it ends, so no lock is ever stale; the
    file itself stays and names its last holder.

    Raises:
        UnusableInputError: Another process holds it; the message names that process.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode("ascii", errors="replace").strip()
            raise UnusableInputError(
                f"{path.parent}: only one process may write a run folder, process "
                f"{holder or 'unknown'} does; wait for it to end, or start a new run"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        yield
    finally:
        os.close(descriptor)

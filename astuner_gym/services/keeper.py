"""Holds a service: ends it, and all that it has started, when whoever wanted it is gone.

Run as a program of its own, by path, with the standard library alone::

    keeper.py <process id of the owner> <grace in seconds> <folder> <program> <argument> …

The owner holds the other end of the keeper's standard input, which the service reads as well. When
that end is closed, even by kill -9 of the owner, the service's process group gets SIGTERM and after
the grace everything below the keeper SIGKILL. When the service ends by itself, so does what it has
left behind, and the keeper with it. If the keeper is killed, the kernel kills the service. The
folder, an empty word for none, is the service's own: it is removed last.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Hold the service until it has ended; returns its exit status, 128 + n for signal n."""
    owner, grace_s, folder, *argv = arguments
    try:
        return _hold(argv, owner=int(owner), grace_s=float(grace_s))
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _hold(argv: list[str], *, owner: int, grace_s: float) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    # What the service leaves behind becomes a child of this process, not of the system's init.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    terminated = _pipe_of_sigterm()
    # The closed input is not enough: a process that the owner forked may hold the other end too.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != owner:  # it ended before the line above
        return 0
    service = _start(libc, argv)
    _say(f"process {service} started: {argv}")
    if not _ends_by_itself(service, terminated):
        _signal_group(service, signal.SIGTERM)
        select.select([os.pidfd_open(service)], [], [], grace_s)
    status = _end_all(service)
    _say(f"process {service} ended with {status}")
    return status


def _pipe_of_sigterm() -> int:
    """Return a file descriptor that can be read once SIGTERM has come."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    signal.signal(signal.SIGTERM, _note)
    return readable


def _note(number: int, frame: FrameType | None) -> None:
    """Do nothing: a signal with a handler is written to the pipe."""


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk is no reason to leave the service alone
        print(f"[keeper] {text}", file=sys.stderr, flush=True)


def _start(libc: ctypes.CDLL, argv: list[str]) -> int:
    keeper = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()  # a group of its own, so that a signal to it does not reach the keeper
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == keeper:
            os.execvpe(argv[0], argv, dict(os.environ))
    except OSError as error:
        _say(f"cannot start {argv[0]}: {error}")
    finally:  # whatever happened, no second keeper goes on
        os._exit(127)


def _ends_by_itself(service: int, terminated: int) -> bool:
    """Wait for the service's end, or for that of the owner; returns whether it was the first."""
    ended = os.pidfd_open(service)
    poll = select.poll()
    poll.register(0, 0)  # reports the hang-up alone; the lines are the service's to read
    poll.register(terminated, select.POLLIN)
    poll.register(ended, select.POLLIN)
    return ended in dict(poll.poll())


def _end_all(service: int) -> int:
    """Kill what is left, generation by generation; returns the service's exit status."""
    _signal_group(service, signal.SIGKILL)
    status = 0
    while True:
        for child in _children():
            os.kill(child, signal.SIGKILL)  # not waited for yet, so the number is still its own
        try:
            ended, code = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if ended == service:
            exit_code = os.waitstatus_to_exitcode(code)
            status = exit_code if exit_code >= 0 else 128 - exit_code


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody left, or only the dead
        os.killpg(group, number)


def _children() -> list[int]:
    # Each thread has a list of its own; this program has one thread.
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii")
    return [int(child) for child in listed.split()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

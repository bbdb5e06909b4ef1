"""A file system of the given folders alone, without other processes and without a network."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import struct
from pathlib import Path

from astuner_gym.services.confinement.call_filter import MACHINES
from astuner_gym.services.confinement.grants import DEVICES, SYSTEM, Grants
from astuner_gym.services.confinement.syscalls import LIBC, check, prctl, syscall

_CLONE_NEWNS, _CLONE_NEWIPC = 0x00020000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 4096, 16384, 1 << 18, 2
_PIVOT_ROOT = (155, 41)
"""By machine."""
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_RDONLY, _NOSUID = 1, 2
_PR_SET_PDEATHSIG = 1
_ROOT = "/proc"
"""A folder that exists, and that nothing given lies in."""
_KEPT_NUMBERS = 300
"""Numbers of processes that the kernel uses once in a namespace, and then no more."""
EVERY_DESCRIPTOR = (1 << 31) - 1


def enter_namespaces(grants: Grants, *, tasks: int) -> None:
    """Go on as the first process of new namespaces, in a child: the caller's process waits for it.

    Raises:
        OSError: The kernel, or who started this process, does not allow it.
    """
    uid, gid, outside = os.getuid(), os.getgid(), os.getpid()
    spaces = _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC
    check(LIBC.unshare(spaces), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _fork_and_wait()
    prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (0, outside):  # 0: a parent outside of the process namespace
        os._exit(1)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _limit_tasks(tasks)
    _see_only(grants)
    # The first process of a namespace gets no signal that it does not handle, and must wait for
    # orphans: the program shall not be it. When the first process ends, the kernel kills all.
    _fork_and_wait()


def _fork_and_wait() -> None:
    """Return in a child; this process ends with its child, in the same way."""
    child = os.fork()
    if not child:
        return
    os.closerange(0, EVERY_DESCRIPTOR)  # the other end of a pipe shall see when the program ends
    while True:
        ended, code = os.waitpid(-1, 0)
        if ended == child:
            exit_code = os.waitstatus_to_exitcode(code)
            os._exit(exit_code if exit_code >= 0 else 128 - exit_code)


def _limit_tasks(tasks: int) -> None:
    """Have the kernel number no more tasks than these in this namespace, root's included."""
    # Before Linux 6.14 the number is the whole machine's, and cannot be written from here.
    with contextlib.suppress(OSError):
        _mount("proc", _ROOT, "proc", 0)
        try:
            Path(_ROOT, "sys/kernel/pid_max").write_text(str(_KEPT_NUMBERS + tasks))
        finally:
            check(LIBC.umount2(os.fsencode(_ROOT), _MNT_DETACH), "umount")


def _see_only(grants: Grants) -> None:
    """Replace the file system by one that holds what is given."""
    _mount("tmpfs", _ROOT, "tmpfs", 0)
    writable = {os.path.realpath(path) for path in grants.write}
    given = {*SYSTEM, *DEVICES, *grants.read, *grants.write}
    # The enclosing folder first, so that one in it is not hidden by it.
    for path in sorted({*given, *map(os.path.realpath, given)}, key=lambda path: path.count("/")):
        source, target = Path(path), Path(_ROOT + path)
        if source.is_symlink() and not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(os.path.realpath(path))
        elif source.exists() and not source.is_symlink():
            _show(source, target)
    _set_mount(_ROOT, set_flags=_RDONLY | _NOSUID, flags=_AT_RECURSIVE)
    for path in sorted(writable):
        _set_mount(_ROOT + path, clear_flags=_RDONLY)
    os.chdir(_ROOT)
    pivot_root = _PIVOT_ROOT[MACHINES.index(platform.machine())]
    syscall("pivot_root", pivot_root, b".", b".")
    check(LIBC.umount2(b".", _MNT_DETACH), "umount")
    os.chdir("/")


def _show(source: Path, target: Path) -> None:
    if not os.path.lexists(target):
        if source.is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    _mount(str(source), str(target), None, _MS_BIND | _MS_REC)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    result = LIBC.mount(*encoded, ctypes.c_ulong(flags), None)
    check(result, f"mount of {source} at {target}")


def _set_mount(target: str, *, set_flags: int = 0, clear_flags: int = 0, flags: int = 0) -> None:
    attributes = struct.pack("=QQQQ", set_flags, clear_flags, 0, 0)
    where = (ctypes.c_int(_AT_FDCWD), os.fsencode(target), ctypes.c_uint(flags))
    syscall("mount_setattr", _MOUNT_SETATTR, *where, attributes, ctypes.c_size_t(len(attributes)))

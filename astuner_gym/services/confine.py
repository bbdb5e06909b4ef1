"""Becomes a program that can reach only what it was given: the launcher of the sandbox.

Run by path, with the standard library alone::

    confine.py --namespaces --landlock 7 --read /usr --write /tmp/x --env LANG -- program argument …

Each layer holds by itself; where the kernel has both, both are put on:

- *namespaces*: user, mount, process, network and IPC namespaces. The program sees a file system of
  the given folders alone, read-only but for those it may write, no other process and no network.
- *Landlock* and a system-call filter: the given folders alone can be opened, no socket can be made,
  no process outside be traced or sent a signal. Without namespaces, names, sizes and modes of other
  files can still be asked for, and modes of the user's own files be set.

Capabilities are dropped, file descriptors closed and environment variables unset that were not
given, in any case. With namespaces the launcher stays as the parent; all processes end with it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import platform
import signal
import stat
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
"""What every program may read: libraries and interpreters, no secrets."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
"""What every program may read and write."""

_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What the program is given, paths absolute and existing."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    env: tuple[str, ...]
    """Names of the environment variables that it gets, if they are set."""
    fds: tuple[int, ...]
    """Open file descriptors that it gets besides 0, 1 and 2."""


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(name: str, number: int, *arguments: object) -> int:
    return _check(_LIBC.syscall(number, *arguments), name)


def _prctl(name: str, option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_LIBC.prctl(option, *padded), name)


# --- Namespaces ---------------------------------------------------------------------------------

_CLONE_NEWNS, _CLONE_NEWIPC = 0x00020000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 4096, 16384, 1 << 18, 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_RDONLY, _NOSUID = 1, 2
_PR_SET_PDEATHSIG = 1


def enter_namespaces(grants: Grants) -> None:
    """Go on as the first process of new namespaces, in a child: the caller's process waits for it.

    Raises:
        OSError: The kernel, or who started this process, does not allow it.
    """
    uid, gid, outside = os.getuid(), os.getgid(), os.getpid()
    spaces = _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC
    _check(_LIBC.unshare(spaces), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _fork_and_wait()
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (0, outside):  # 0: a parent outside of the process namespace
        os._exit(1)
    _see_only(grants)
    # The first process of a namespace gets no signal that it does not handle, and must wait for
    # orphans: the program shall not be it. When the first process ends, the kernel kills all.
    _fork_and_wait()


def _fork_and_wait() -> None:
    """Return in a child; this process ends with its child, in the same way."""
    child = os.fork()
    if not child:
        return
    os.closerange(0, 1 << 16)  # the other end of a pipe shall see when the program ends
    while True:
        ended, code = os.waitpid(-1, 0)
        if ended == child:
            exit_code = os.waitstatus_to_exitcode(code)
            os._exit(exit_code if exit_code >= 0 else 128 - exit_code)


def _see_only(grants: Grants) -> None:
    """Replace the file system by one that holds what is given."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    root = "/proc"  # a folder that exists and that nothing given lies in
    _mount("tmpfs", root, "tmpfs", 0)
    writable = {os.path.realpath(path) for path in grants.write}
    given = {*SYSTEM, *DEVICES, *grants.read, *grants.write}
    # The enclosing folder first, so that one in it is not hidden by it.
    for path in sorted({*given, *map(os.path.realpath, given)}, key=lambda path: path.count("/")):
        source, target = Path(path), Path(root + path)
        if source.is_symlink() and not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(os.path.realpath(path))
        elif source.exists() and not source.is_symlink():
            _show(source, target)
    _set_mount(root, set_flags=_RDONLY | _NOSUID, flags=_AT_RECURSIVE)
    for path in sorted(writable):
        _set_mount(root + path, clear_flags=_RDONLY)
    os.chdir(root)
    _syscall("pivot_root", _PIVOT_ROOT[platform.machine()], b".", b".")
    _check(_LIBC.umount2(b".", _MNT_DETACH), "umount")
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
    result = _LIBC.mount(*encoded, ctypes.c_ulong(flags), None)
    _check(result, f"mount of {source} at {target}")


def _set_mount(target: str, *, set_flags: int = 0, clear_flags: int = 0, flags: int = 0) -> None:
    attributes = struct.pack("=QQQQ", set_flags, clear_flags, 0, 0)
    where = (ctypes.c_int(_AT_FDCWD), os.fsencode(target), ctypes.c_uint(flags))
    _syscall("mount_setattr", _MOUNT_SETATTR, *where, attributes, ctypes.c_size_t(len(attributes)))


# --- Landlock -----------------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""By ABI, how many rights over files it brought the number to."""
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
"""The rights that a rule for a file may hold; the others are of folders."""
_NETWORK, _SCOPES = 0b11, 0b11
"""Of ABI 4: to bind and to connect TCP. Of ABI 6: abstract Unix sockets and signals."""


def landlock_abi() -> int:
    """Return the version of Landlock that the kernel has and allows, 0 for none."""
    abi: int = _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return max(abi, 0)


def restrict_files(grants: Grants, *, abi: int) -> None:
    """Let this process, and all that it starts, open nothing but what is given.

    Raises:
        OSError: The kernel refuses.
    """
    every = (1 << max(count for since, count in _RIGHTS.items() if since <= abi)) - 1
    handled = struct.pack("=QQQ", every, _NETWORK, _SCOPES)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _syscall("landlock", _CREATE_RULESET, handled, ctypes.c_size_t(size), 0)
    reading = _EXECUTE | _READ_FILE | _READ_DIR
    for paths, rights in (
        ((*SYSTEM, *grants.read), reading),
        (DEVICES, _READ_FILE | _WRITE_FILE),
        (grants.write, every & ~_IOCTL_DEV),
    ):
        for path in filter(os.path.exists, paths):
            _allow(ruleset, path, rights & every)
    _syscall("landlock", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, beneath)
        _syscall("landlock", _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(beneath)


# --- System calls -------------------------------------------------------------------------------

_MACHINES = ("x86_64", "aarch64")
_ARCHITECTURES = (0xC000003E, 0xC00000B7)
_FORBIDDEN: dict[str, tuple[int, int]] = {
    "socket": (41, 198),
    "connect": (42, 203),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "mq_open": (240, 180),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "mount_setattr": (442, 442),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "open_by_handle_at": (304, 265),
}
"""Calls that always fail, with their numbers on each machine."""
_MSG_FASTOPEN = 0x20000000
_NEW_NAMESPACES = 0x7E020000
_FORBIDDEN_BITS: dict[str, tuple[tuple[int, int], int, int]] = {
    "clone": ((56, 220), 0, _NEW_NAMESPACES),
    "prlimit64": ((302, 261), 0, 0xFFFFFFFF),  # limits of another process
    "socketpair": ((53, 199), 1, 0b0010),  # datagrams, which can be sent to any address
    "sendto": ((44, 206), 3, _MSG_FASTOPEN),  # connects
    "sendmsg": ((46, 211), 2, _MSG_FASTOPEN),
    "sendmmsg": ((307, 269), 3, _MSG_FASTOPEN),
}
"""Calls that fail if one of these bits is set in the argument of that index."""
_CLONE3 = 435
"""Keeps its flags in memory, where no filter sees them; without it libraries use clone."""
_X32 = 0x40000000
"""Set in the numbers of a second set of system calls of x86_64, which no program needs."""
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
"""The last two: fail with EPERM, and with ENOSYS."""
_PR_SET_SECCOMP, _FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def forbid_calls() -> None:
    """Let system calls fail that make sockets, trace processes or share memory with them.

    A pair of connected sockets can be made, and a listening one that was given can be used.

    Raises:
        OSError: The kernel refuses, or its machine is not known here.
    """
    if platform.machine() not in _MACHINES:
        raise OSError(f"system calls are known for {_MACHINES}, not for {platform.machine()}")
    machine = _MACHINES.index(platform.machine())
    # Of what a filter sees, offset 0 is the call's number, 4 the architecture, 16 the arguments of
    # 8 bytes each, low half first. Jumps count the instructions that are left out.
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURES[machine]), (_RETURN, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    code += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _UNKNOWN)]
    for numbers in _FORBIDDEN.values():
        code += [(_EQUAL, 0, 1, numbers[machine]), (_RETURN, 0, 0, _REFUSE)]
    for numbers, argument, bits in _FORBIDDEN_BITS.values():
        code += [(_EQUAL, 0, 4, numbers[machine]), (_LOAD, 0, 0, 16 + 8 * argument)]
        code += [(_ANY_BIT, 0, 1, bits), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, 0)]
    code += [(_RETURN, 0, 0, _ALLOW)]
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
    program = _Program(len(code), packed)
    _prctl("PR_SET_SECCOMP", _PR_SET_SECCOMP, _FILTER, ctypes.addressof(program))


# --- Everything together ------------------------------------------------------------------------

_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _CLEAR_ALL = 38, 24, 47, 4
_CAPABILITIES_V3 = 0x20080522


def drop_privileges() -> None:
    """Give up all capabilities, for good."""
    for capability in range(64):
        with contextlib.suppress(OSError):  # no such capability, or none to give up
            _prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, capability)
    with contextlib.suppress(OSError):
        _prctl("PR_CAP_AMBIENT", _PR_CAP_AMBIENT, _CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITIES_V3, 0)
    _check(_LIBC.capset(header, bytes(24)), "capset")
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def become(
    argv: Sequence[str], grants: Grants, *, namespaces: bool, landlock: int, folder: str
) -> NoReturn:
    """Confine this process and run the program in it.

    Args:
        argv: Program and arguments.
        grants: What it is given.
        namespaces: Whether to use namespaces.
        landlock: ABI of Landlock to use; 0 for none.
        folder: Where the program runs.

    Raises:
        OSError: A layer cannot be put on, or there is no such program.
    """
    low = 3
    for descriptor in sorted(grants.fds):
        os.set_inheritable(descriptor, True)
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, 1 << 16)
    if namespaces:
        enter_namespaces(grants)
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()  # no terminal whose input could be forged
    os.chdir(folder)
    drop_privileges()
    if landlock:
        restrict_files(grants, abi=landlock)
    forbid_calls()
    kept = {name: os.environ[name] for name in grants.env if name in os.environ}
    os.execve(argv[0], list(argv), kept)


def main() -> None:
    """Read the command line and become the program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--namespaces", action="store_true")
    parser.add_argument("--landlock", type=int, default=0, metavar="ABI")
    parser.add_argument("--read", action="append", default=[], metavar="PATH")
    parser.add_argument("--write", action="append", default=[], metavar="PATH")
    parser.add_argument("--env", action="append", default=[], metavar="NAME")
    parser.add_argument("--fd", action="append", type=int, default=[], metavar="NUMBER")
    parser.add_argument("--folder", default="/", metavar="PATH")
    parser.add_argument("argv", nargs="+")
    given = parser.parse_args()
    grants = Grants(
        read=tuple(given.read), write=tuple(given.write), env=tuple(given.env), fds=tuple(given.fd)
    )
    try:
        become(
            given.argv,
            grants,
            namespaces=given.namespaces,
            landlock=given.landlock,
            folder=given.folder,
        )
    except OSError as error:
        sys.exit(f"cannot confine {given.argv[0]}: {error}")


if __name__ == "__main__":
    main()

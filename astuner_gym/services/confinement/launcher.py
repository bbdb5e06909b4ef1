"""The launcher: confines its process, and becomes the program.

Each layer holds by itself; where the kernel has both, both are put on:

- *namespaces*: user, mount, process, network and IPC namespaces. The program sees a file system of
  the given folders alone, read-only but for those it may write, no other process and no network.
- *Landlock* and a filter of system calls: the given folders alone can be opened, no socket be made,
  no process outside be traced or sent a signal. Without namespaces, names, sizes and modes of other
  files can still be asked for; calls that would change mode, owner or times of a file do nothing.

Capabilities are dropped, file descriptors closed and environment variables unset that were not
given, and limits set, in any case. With namespaces the launcher stays as the parent; all processes
end with it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import struct
import sys
from collections.abc import Sequence
from typing import NoReturn

from astuner_gym.services.confinement.call_filter import forbid_calls
from astuner_gym.services.confinement.grants import Grants, Limits
from astuner_gym.services.confinement.landlock import restrict_files
from astuner_gym.services.confinement.namespaces import EVERY_DESCRIPTOR, enter_namespaces
from astuner_gym.services.confinement.syscalls import LIBC, check, prctl

_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _CLEAR_ALL = 38, 24, 47, 4
_CAPABILITIES_V3 = 0x20080522
_TASKS_ELSEWHERE = 4096
"""More than a user has; without a namespace the kernel counts all tasks of the user."""


def drop_privileges() -> None:
    """Give up all capabilities, for good."""
    for capability in range(64):
        with contextlib.suppress(OSError):  # no such capability, or none to give up
            prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, capability)
    with contextlib.suppress(OSError):
        prctl("PR_CAP_AMBIENT", _PR_CAP_AMBIENT, _CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITIES_V3, 0)
    check(LIBC.capset(header, bytes(24)), "capset")
    prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def impose(limits: Limits, *, namespaces: bool) -> None:
    """Set the limits of this process and of all that it starts."""
    wanted = {
        resource.RLIMIT_AS: limits.memory,
        resource.RLIMIT_NPROC: limits.tasks + (0 if namespaces else _TASKS_ELSEWHERE),
        resource.RLIMIT_FSIZE: limits.file_size,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CORE: 0,
    }
    if limits.cpu_s is not None:
        wanted[resource.RLIMIT_CPU] = limits.cpu_s
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))


def become(
    argv: Sequence[str],
    grants: Grants,
    limits: Limits,
    *,
    namespaces: bool,
    landlock: int,
    folder: str,
) -> NoReturn:
    """Confine this process and run the program in it.

    Args:
        argv: Program and arguments.
        grants: What it is given.
        limits: How much it may use.
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
    os.closerange(low, EVERY_DESCRIPTOR)
    if namespaces:
        enter_namespaces(grants, tasks=limits.tasks)
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()  # no terminal whose input could be forged
    os.chdir(folder)
    drop_privileges()
    if landlock:
        restrict_files(grants, abi=landlock)
    forbid_calls(attributes=not namespaces, processes=limits.alone)
    kept = {name: os.environ[name] for name in grants.env if name in os.environ}
    impose(limits, namespaces=namespaces)
    os.execve(argv[0], list(argv), kept)


def main() -> None:
    """Read the command line and become the program."""
    parser = argparse.ArgumentParser(prog="confine", description=__doc__.partition("\n")[0])
    parser.add_argument("--namespaces", action="store_true")
    parser.add_argument("--landlock", type=int, default=0, metavar="ABI")
    parser.add_argument("--read", action="append", default=[], metavar="PATH")
    parser.add_argument("--write", action="append", default=[], metavar="PATH")
    parser.add_argument("--env", action="append", default=[], metavar="NAME")
    parser.add_argument("--fd", action="append", type=int, default=[], metavar="NUMBER")
    parser.add_argument("--folder", default="/", metavar="PATH")
    usual = Limits()
    parser.add_argument("--memory", type=int, default=usual.memory, metavar="BYTES")
    parser.add_argument("--tasks", type=int, default=usual.tasks, metavar="NUMBER")
    parser.add_argument("--file-size", type=int, default=usual.file_size, metavar="BYTES")
    parser.add_argument("--open-files", type=int, default=usual.open_files, metavar="NUMBER")
    parser.add_argument("--cpu", type=int, metavar="SECONDS")
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("argv", nargs="+")
    given = parser.parse_args()
    grants = Grants(
        read=tuple(given.read), write=tuple(given.write), env=tuple(given.env), fds=tuple(given.fd)
    )
    limits = Limits(
        memory=given.memory,
        alone=not given.processes,
        tasks=given.tasks,
        file_size=given.file_size,
        open_files=given.open_files,
        cpu_s=given.cpu,
    )
    try:
        become(
            given.argv,
            grants,
            limits,
            namespaces=given.namespaces,
            landlock=given.landlock,
            folder=given.folder,
        )
    except OSError as error:
        sys.exit(f"cannot confine {given.argv[0]}: {error}")

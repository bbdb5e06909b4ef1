"""A filter of system calls (seccomp): those that no other layer holds fail with EPERM.

The tables list calls with their numbers on each of ``MACHINES``, None where it has none. The file
needs the standard library alone, so any Python can load it by its path.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

Numbers: TypeAlias = tuple[int | None, int | None]

MACHINES = ("x86_64", "aarch64")
"""Whose numbers of system calls are known here."""

_ARCHITECTURES = (0xC000003E, 0xC00000B7)
_ALWAYS: Mapping[str, Numbers] = {
    # Sockets of any kind, and other processes' insides.
    "socket": (41, 198),
    "connect": (42, 203),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # Objects with a name of their own, which only a namespace hides.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # What happens to other files, and what the kernel logs.
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "syslog": (103, 116),
    # Precedence over other processes.
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    # Memory that no limit of a process counts, and what few are to be had of.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "io_setup": (206, 0),
    # Large parts of the kernel.
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
_ATTRIBUTES: Mapping[str, Numbers] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
}
"""Modes and owners of files, for which Landlock has no right. Many a program sets them in passing,
such as one that copies a file, and fails if it cannot."""
_OLD_TIMES: Mapping[str, Numbers] = {
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
}
_UTIMENSAT: Numbers = (280, 88)
"""Sets times that its third argument points to, or the present one if that is null."""
_STARTS: Mapping[str, Numbers] = {"fork": (57, None), "vfork": (58, None)}
_OF_OTHERS: Mapping[str, Numbers] = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
}

_CLONE: Numbers = (56, 220)
_CLONE3 = 435
"""Keeps its flags in memory, where no filter sees them; without it libraries use clone."""
_NEW_NAMESPACES, _THREAD = 0x7E020000, 0x00010000
_MSG_FASTOPEN = 0x20000000
_ANY_BIT_OF: Mapping[str, tuple[Numbers, int, int]] = {
    "clone": (_CLONE, 0, _NEW_NAMESPACES),
    "prlimit64": ((302, 261), 0, 0xFFFFFFFF),  # limits of another process
    "sched_setaffinity": ((203, 122), 0, 0xFFFFFFFF),
    "sched_setscheduler": ((144, 119), 0, 0xFFFFFFFF),
    "sched_setparam": ((142, 118), 0, 0xFFFFFFFF),
    "sched_setattr": ((314, 274), 0, 0xFFFFFFFF),
    "socketpair": ((53, 199), 1, 0b0010),  # datagrams, which can be sent to any address
    "sendto": ((44, 206), 3, _MSG_FASTOPEN),  # connects
    "sendmsg": ((46, 211), 2, _MSG_FASTOPEN),
    "sendmmsg": ((307, 269), 3, _MSG_FASTOPEN),
}
"""Calls that fail if one of these bits is set in the argument of that index."""
_OWNS = {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15}
_OWNS_OF_SOCKETS = {"FIOSETOWN": 0x8901, "SIOCSPGRP": 0x8902}
"""By these a file descriptor sends a signal to another process."""

_X32 = 0x40000000
"""Set in the numbers of a second set of system calls of x86_64, which no program needs."""
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_IGNORE, _REFUSE, _UNKNOWN = 0x00050000, 0x00050001, 0x00050026
"""Do nothing and return 0, fail with EPERM, and fail with ENOSYS."""
_PR_SET_SECCOMP, _FILTER = 22, 2

Instruction: TypeAlias = tuple[int, int, int, int]
"""Operation, instructions to leave out if it holds and if it does not, operand."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def forbid_calls(*, attributes: bool, processes: bool) -> None:
    """Let system calls fail that reach around the other layers, for good.

    A pair of connected sockets can be made, and a listening one that was given can be used.

    Args:
        attributes: Whether modes, owners and times of files cannot be changed either, but for the
            times to the present: calls that would do so do nothing.
        processes: Whether no process can be started either; threads can.

    Raises:
        OSError: The kernel refuses, or its machine is not known here.
    """
    rules = [*_always(_ALWAYS.values())]
    for numbers, argument, bits in _ANY_BIT_OF.values():
        rules.append((numbers, argument, (_ANY_BIT, 0, 1, bits), _REFUSE))
    if attributes:
        rules += ((numbers, 0, None, _IGNORE) for numbers in _ATTRIBUTES.values())
        rules += _always(_OLD_TIMES.values())
        for half in (2, 2 + _HIGH):
            rules.append((_UTIMENSAT, half, (_ANY_BIT, 0, 1, 0xFFFFFFFF), _IGNORE))
    if processes:
        rules += _starts()
    _install(rules)


def stay_alone() -> None:
    """Let this process, for good, start no other one and no program, and signal only itself.

    For what runs untrusted code in a process of the same confinement as others.

    Raises:
        OSError: The kernel refuses, or its machine is not known here.
    """
    rules = [*_starts(), *_always(_OF_OTHERS.values())]
    for numbers in ((62, 129), (234, 131)):  # kill and tgkill
        rules.append((numbers, 0, (_EQUAL, 1, 0, os.getpid()), _REFUSE))
    for command in _OWNS.values():
        rules.append(((72, 25), 1, (_EQUAL, 0, 1, command), _REFUSE))
    for command in _OWNS_OF_SOCKETS.values():
        rules.append(((16, 29), 1, (_EQUAL, 0, 1, command), _REFUSE))
    _install(rules)


_Rule: TypeAlias = tuple[Numbers, float, Instruction | None, int]
"""A call, an argument and its test, and what comes of the call then; None is always true. It is the
low half of the argument that is tested, or with ``_HIGH`` added to its index the other one."""
_HIGH = 0.5


def _always(calls: Iterable[Numbers]) -> Iterator[_Rule]:
    return ((numbers, 0, None, _REFUSE) for numbers in calls)


def _starts() -> Iterator[_Rule]:
    yield from _always(_STARTS.values())
    yield _CLONE, 0, (_ANY_BIT, 1, 0, _THREAD), _REFUSE


def _install(rules: Iterable[_Rule]) -> None:
    if platform.machine() not in MACHINES:
        raise OSError(f"system calls are known for {MACHINES}, not for {platform.machine()}")
    machine = MACHINES.index(platform.machine())
    # Of what a filter sees, offset 0 is the call's number, 4 the architecture, 16 the arguments of
    # 8 bytes each, low half first. Jumps count the instructions that are left out.
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURES[machine]), (_RETURN, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    code += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _UNKNOWN)]
    for numbers, argument, test, answer in rules:
        number = numbers[machine]
        if number is None:
            continue
        if test is None:
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]
        else:
            code += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, int(16 + 8 * argument)), test]
            code += [(_RETURN, 0, 0, answer), (_LOAD, 0, 0, 0)]
    code += [(_RETURN, 0, 0, _ALLOW)]
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
    program = _Program(len(code), packed)
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (_FILTER, ctypes.addressof(program), 0, 0)
    if libc.prctl(_PR_SET_SECCOMP, *map(ctypes.c_ulong, arguments)):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")

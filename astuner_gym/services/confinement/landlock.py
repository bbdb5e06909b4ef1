"""Landlock: nothing can be opened but what is given."""

from __future__ import annotations

import ctypes
import os
import stat
import struct

from astuner_gym.services.confinement.grants import DEVICES, SYSTEM, Grants
from astuner_gym.services.confinement.syscalls import LIBC, syscall

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
    abi: int = LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return max(abi, 0)


def restrict_files(grants: Grants, *, abi: int) -> None:
    """Let this process, and all that it starts, open nothing but what is given.

    Raises:
        OSError: The kernel refuses.
    """
    every = (1 << max(count for since, count in _RIGHTS.items() if since <= abi)) - 1
    handled = struct.pack("=QQQ", every, _NETWORK, _SCOPES)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = syscall("landlock", _CREATE_RULESET, handled, ctypes.c_size_t(size), 0)
    reading = _EXECUTE | _READ_FILE | _READ_DIR
    for paths, rights in (
        ((*SYSTEM, *grants.read), reading),
        (DEVICES, _READ_FILE | _WRITE_FILE),
        (grants.write, every & ~_IOCTL_DEV),
    ):
        for path in filter(os.path.exists, paths):
            _allow(ruleset, path, rights & every)
    syscall("landlock", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, beneath)
        syscall("landlock", _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(beneath)

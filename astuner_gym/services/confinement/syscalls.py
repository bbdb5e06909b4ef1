"""System calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Return the result of a call.

    Raises:
        OSError: It is negative; the message says what failed.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(name: str, number: int, *arguments: object) -> int:
    """Make a system call by its number; ``name`` is for the error.

    Raises:
        OSError: It failed.
    """
    return check(LIBC.syscall(number, *arguments), name)


def prctl(name: str, option: int, *arguments: int) -> None:
    """Call ``prctl`` with arguments of full width.

    Raises:
        OSError: It failed.
    """
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    check(LIBC.prctl(option, *padded), name)

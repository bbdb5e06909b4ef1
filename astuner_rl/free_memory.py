"""Memory that a process has freed and the C library keeps."""

from __future__ import annotations

import ctypes
import platform


def return_free_memory() -> None:
    """Hand back to the system what glibc keeps between blocks in use; nothing elsewhere.

    Where blocks of many sizes come and go the heap comes to be full of gaps, which the system
    counts as memory of the process.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)

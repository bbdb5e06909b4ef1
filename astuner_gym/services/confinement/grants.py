"""What a confined program is given, and how much of it it may use."""

from __future__ import annotations

from dataclasses import dataclass

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
"""What every program may read: libraries and interpreters, no secrets."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
"""What every program may read and write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What the program is given, paths absolute and existing."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    env: tuple[str, ...]
    """Names of the environment variables that it gets, if they are set."""
    fds: tuple[int, ...]
    """Open file descriptors that it gets besides 0, 1 and 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a confined program may use. What exceeds a limit fails with an error in it."""

    memory: int = 4 << 30
    """Bytes of address space of each process: an interpreter with large libraries needs one GiB."""
    alone: bool = True
    """Whether it may start threads, but no process. Else a limit of a process is one of each of
    its processes, and the program may use ``tasks`` times as much."""
    tasks: int = 128
    """Processes and threads at a time, more than a pool of threads has. A kernel before 6.14 lets
    root have as many as it wants, and Landlock alone does at any time."""
    file_size: int = 64 << 20
    """Bytes up to which it can write a file, its output included if that goes to one. How many
    files there are is not limited: the folder's owner has to look."""
    open_files: int = 256
    """File descriptors of each process; with ``file_size`` it bounds files without a name."""
    cpu_s: int | None = None
    """Seconds of a core that each process may use; None for a service that stays."""

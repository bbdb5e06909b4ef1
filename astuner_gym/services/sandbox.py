"""Runs programs that are not trusted, such as code that a model has written.

A confined program reads the folders that it is given and what every program needs
(``grants.SYSTEM``), writes those given to write, and reaches neither the network, not even the
loopback, nor other processes, nor environment variables that it is not given. It is talked to
through its standard streams, or through file descriptors that it is given, such as a listening
socket::

    kernel = offered()
    argv = Confinement(read=[code], write=[scratch]).argv(["/usr/bin/python3", "run.py"], kernel)
    process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)

The end of the process that this starts is the end of the program; what the program has started
ends with it where the kernel has namespaces, else with the service under which it runs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import astuner_gym
from astuner_gym.errors import SettingError
from astuner_gym.services.confinement import launcher
from astuner_gym.services.confinement.grants import Limits
from astuner_gym.services.confinement.landlock import landlock_abi

_LANDLOCK_ALONE = 6
"""The first version of Landlock that also keeps signals and abstract sockets from others."""
_ROOT = str(Path(astuner_gym.__file__).parents[1])
_LAUNCH = f"import sys; sys.path.insert(0, {_ROOT!r}); from {launcher.__name__} import main; main()"
_LAUNCHER = (sys.executable, "-I", "-S", "-c", _LAUNCH)
"""Starts within milliseconds, since it imports nothing but the launcher."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What this machine's kernel offers to whoever confines a program."""

    namespaces: bool
    """Whether user, mount, process, network and IPC namespaces can be made."""
    landlock: int
    """ABI version of Landlock; 0 if there is none."""
    calls: bool
    """Whether system calls can be forbidden."""

    @property
    def refusal(self) -> str | None:
        """Why a program cannot be confined here; None if it can."""
        if not self.calls:
            return "system calls cannot be filtered (seccomp), which needs Linux on x86_64 or arm64"
        if not self.namespaces and self.landlock < _LANDLOCK_ALONE:
            return (
                "neither user namespaces are allowed (kernel.unprivileged_userns_clone, AppArmor, "
                f"the container's settings) nor is there Landlock of ABI {_LANDLOCK_ALONE} "
                f"(Linux 6.12), but {self.landlock}"
            )
        return None


def offered() -> Kernel:
    """Return what the kernel offers, by trying it in child processes."""
    landlock = landlock_abi() if sys.platform == "linux" else 0
    return Kernel(
        namespaces=_runs("--namespaces"),
        landlock=landlock if landlock and _runs("--landlock", str(landlock)) else 0,
        calls=_runs(),
    )


def _runs(*layers: str) -> bool:
    command = [*_LAUNCHER, *layers, "--", "/usr/bin/env"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What a confined program is given; everything else is out of its reach."""

    read: Sequence[Path] = ()
    """Files and folders that it may read and run, besides the system's programs."""
    write: Sequence[Path] = ()
    """Files and folders that it may also change."""
    env: Sequence[str] = ()
    """Names of the environment variables that it gets, of those that the launcher is given."""
    fds: Sequence[int] = ()
    """File descriptors, besides the standard streams, that it gets if they are passed on to it."""
    folder: Path = Path("/")
    """Where it runs: a folder that it may read, or the root."""
    limits: Limits = field(default_factory=Limits)
    """How much it may use."""

    def __post_init__(self) -> None:
        for path in (*self.read, *self.write):
            if not path.is_absolute() or not path.exists():
                raise SettingError(
                    f"a confined program can be given absolute paths of what exists, got {path}"
                )

    def argv(self, argv: Sequence[str], kernel: Kernel) -> list[str]:
        """Return the command that runs the program in this confinement, by all that is offered.

        Args:
            argv: Program, by its absolute path, and arguments.
            kernel: From :func:`offered`, or with less to do without a layer.

        Raises:
            SettingError: The kernel offers too little; the message says what.
        """
        if kernel.refusal is not None:
            raise SettingError(f"a program cannot be confined on this machine: {kernel.refusal}")
        options = [f"--read={path}" for path in self.read]
        options += [f"--write={path}" for path in self.write]
        options += [f"--env={name}" for name in self.env]
        options += [f"--fd={number}" for number in self.fds]
        options += [f"--memory={self.limits.memory}", f"--tasks={self.limits.tasks}"]
        options += [f"--file-size={self.limits.file_size}"]
        options += [f"--open-files={self.limits.open_files}"]
        if self.limits.cpu_s is not None:
            options.append(f"--cpu={self.limits.cpu_s}")
        if not self.limits.alone:
            options.append("--processes")
        if kernel.namespaces:
            options.append("--namespaces")
        if kernel.landlock:
            options.append(f"--landlock={kernel.landlock}")
        return [*_LAUNCHER, *options, f"--folder={self.folder}", "--", *argv]

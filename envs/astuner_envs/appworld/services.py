"""How executors and evaluators are started."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from astuner_envs.appworld.folders import ENGINE_SCRIPTS, DataFolders
from astuner_gym.errors import SettingError
from astuner_gym.services import token_reader
from astuner_gym.services.command import FOLDER, PORT, ServiceCommand
from astuner_gym.services.confinement import call_filter
from astuner_gym.services.confinement.grants import Limits
from astuner_gym.services.sandbox import Confinement, Kernel

LIMITS = Limits(memory=2 << 30, alone=False, tasks=128, file_size=16 << 20, open_files=256)
"""Of an executor, which has one process besides: a world takes a third of this memory, a pool of 40
threads, and files as large as what an episode changes."""


def executor_command(
    python: Path, folders: DataFolders, kernel: Kernel, *, unsafe: bool
) -> ServiceCommand:
    """Return how an executor is started: confined, without ground truth in its reach.

    Args:
        python: Of the engine's environment.
        folders: The data; executors get the open one.
        kernel: What confines an executor, from ``offered()``.
        unsafe: Whether to go without a sandbox where the kernel offers none.

    Raises:
        SettingError: The kernel offers none, and ``unsafe`` is not set.
    """
    program = [str(python), str(ENGINE_SCRIPTS / "executor.py")]
    if kernel.refusal is None:
        calls = Path(call_filter.__file__)
        read = [*_installation(python), ENGINE_SCRIPTS, calls, folders.open]
        program = Confinement(read=read, limits=LIMITS).argv([*program, str(calls)], kernel)
    elif not unsafe:
        raise SettingError(
            f"code that a model writes is not executed without a sandbox: {kernel.refusal}; "
            "use another machine, or accept the risk with env.unsafe=true"
        )
    else:
        program.append("")
    host = [str(python), str(ENGINE_SCRIPTS / "host.py"), PORT, FOLDER, str(folders.open)]
    return ServiceCommand(argv=[*host, "--", *program])


def evaluator_command(python: Path, folders: DataFolders) -> ServiceCommand:
    """Return how an evaluator is started: with the ground truth, and no agent's code."""
    assert token_reader.__file__ is not None
    script = str(ENGINE_SCRIPTS / "evaluator.py")
    return ServiceCommand(
        argv=[str(python), script, PORT, FOLDER, str(folders.sealed), token_reader.__file__]
    )


@cache
def _installation(python: Path) -> tuple[Path, ...]:
    """Return the folders that this Python needs: its environment and what that is made from."""
    code = "import sys; print(sys.prefix); print(sys.base_prefix)"
    output = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    return tuple(dict.fromkeys(map(Path, output.splitlines())))

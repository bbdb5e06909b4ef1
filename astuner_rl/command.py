"""One command, such as ``train`` or ``evaluate``, from its arguments to its exit status."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import NoReturn, TypeAlias

from astuner_gym.errors import AstunerError, SettingError, UnusableInputError
from astuner_rl.composition import compose_experiment, config_yaml, expand_sweep
from astuner_rl.config import ExperimentConfig
from astuner_rl.settings_help import settings_help

Command: TypeAlias = Callable[[ExperimentConfig], None]


class ExitStatus(IntEnum):
    """What a command tells the shell; of two jobs of a sweep the greater is the worse."""

    DONE = 0
    FAILED = 1
    """It failed at run time."""
    UNUSABLE_INPUT = 2
    """Settings, files or data with which no run can start."""
    INTERRUPTED = 130
    """Ctrl-C."""


def run_command(
    command: Command, arguments: Sequence[str], *, name: str, judge: Sequence[str] = ()
) -> ExitStatus:
    """Compose and check the settings in ``arguments``, then run ``command`` with them.

    With ``--multirun`` it runs one job after the other; one that fails does not stop the others,
    and the status is the worst. Every failure is said on standard error.

    Args:
        command: What to run; it raises :class:`astuner_gym.errors.AstunerError` to fail.
        arguments: Of the command line, without the program's name.
        name: Of the command, for help and messages.
        judge: Settings of a judge that the command composes by itself; its help lists them.
    """
    try:
        options = _parser(name).parse_intermixed_args(arguments)
        dirs = [] if options.config_dir is None else [Path(options.config_dir)]
        if options.help:
            text = settings_help(options.overrides, config_dirs=dirs, command=name, judge=judge)
            print(text)
            return ExitStatus.DONE
        jobs = [options.overrides]
        if options.multirun:
            # First, so that a group of the user's own wins.
            jobs = expand_sweep([f"logger.group={_sweep_name()}", *options.overrides])
    except SettingError as error:
        return _report(error)
    statuses = []
    for number, overrides in enumerate(jobs, start=1):
        if options.multirun:
            print(f"job {number} of {len(jobs)}: {' '.join(overrides)}", file=sys.stderr)
        status = _run_job(command, overrides, dirs=dirs, print_only=options.cfg is not None)
        statuses.append(status)
        if status is ExitStatus.INTERRUPTED:
            break
    return max(statuses)


def _sweep_name() -> str:
    """Name the jobs that were started together, so that a logger shows them together."""
    return f"sweep-{datetime.now():%Y-%m-%d-%H-%M-%S}"


def _run_job(
    command: Command, overrides: Sequence[str], *, dirs: Sequence[Path], print_only: bool
) -> ExitStatus:
    try:
        config = compose_experiment(overrides, config_dirs=dirs)
        if print_only:
            print(config_yaml(config), end="")
        else:
            command(config)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return ExitStatus.INTERRUPTED
    except Exception as error:  # the boundary: whatever a job raises becomes its exit status
        return _report(error)
    return ExitStatus.DONE


def _report(error: Exception) -> ExitStatus:
    if isinstance(error, AstunerError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    if isinstance(error, UnusableInputError):
        return ExitStatus.UNUSABLE_INPUT
    return ExitStatus.FAILED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse a bad flag as any other bad setting is refused."""
        raise SettingError(f"{message}; see astuner --help")


def _parser(name: str) -> argparse.ArgumentParser:
    # --help composes the settings that it lists, so it is an option like any other.
    parser = _Parser(prog=f"astuner {name}", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=["job"])
    parser.add_argument("--config-dir")
    return parser

"""Figures on Weights & Biases: on its server, or in files that ``wandb sync`` uploads later."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from astuner_gym.task import JsonValue
from astuner_rl.tracing.logger import Logger, SilentLogger
from astuner_rl.tracing.metrics import Metrics
from astuner_rl.tracing.redaction import REDACTED, redact
from astuner_rl.tracing.run_folder import RunFolder

if TYPE_CHECKING:
    from wandb import Run

_T = TypeVar("_T")

_START_TIMEOUT_S: Final = 30
_FINISH_TIMEOUT_S: Final = 120
"""What is not uploaded by then stays in the run folder, for ``wandb sync``."""


class LoggerMode(StrEnum):
    """Where figures are shown beside the run folder."""

    OFFLINE = "offline"
    """In W&B's files in the run folder; nothing is sent."""
    ONLINE = "online"
    """On the W&B server that the environment names."""
    DISABLED = "disabled"


def open_logger(
    folder: RunFolder,
    *,
    mode: LoggerMode,
    project: str,
    config: Mapping[str, JsonValue],
    group: str | None = None,
) -> Logger:
    """Start showing a run; one that is resumed goes on in the W&B run that it had.

    A failure of W&B is warned of once and never ends the run.

    Args:
        folder: The run's folder; names the run and keeps its W&B id.
        mode: Where the figures go.
        project: W&B project.
        config: The run's settings; secrets are taken out.
        group: Name of the sweep that the run belongs to.
    """
    if mode is LoggerMode.DISABLED:
        return SilentLogger()
    return WandbLogger(lambda: _start(folder, mode, project, config, group))


class WandbLogger:
    """Shows a run on W&B for as long as that works."""

    def __init__(self, start: Callable[[], Run]) -> None:
        self._run: Run | None = None
        self._run = self._attempt("start", start)

    def log(self, step: int, metrics: Metrics) -> None:
        """Show the figures of a step."""
        if self._run is not None:
            # W&B's own step counter cannot go back, as a resumed run does; ``step`` is the axis.
            run, figures = self._run, {"step": step, **metrics}
            self._attempt("log", lambda: run.log(figures))

    def close(self, *, failed: bool) -> None:
        """End the W&B run, as failed or as finished."""
        if self._run is not None:
            run = self._run
            self._attempt("finish", lambda: run.finish(exit_code=int(failed)))
            self._run = None

    def _attempt(self, what: str, action: Callable[[], _T]) -> _T | None:
        try:
            return action()
        except Exception as error:  # whatever W&B or the network raises, training goes on
            self._run = None
            warnings.warn(
                f"W&B failed to {what} and is left out from here on; metrics.jsonl has every "
                f"figure: {_without_key(repr(error))}",
                stacklevel=3,
            )
            return None


def _start(
    folder: RunFolder,
    mode: LoggerMode,
    project: str,
    config: Mapping[str, JsonValue],
    group: str | None,
) -> Run:
    import wandb  # takes seconds and starts threads: only runs that log to it pay

    run_id = folder.wandb_run_id()
    if run_id is None:
        run_id = secrets.token_hex(4)
        folder.keep_wandb_run_id(run_id)
    run = wandb.init(
        project=project,
        name=folder.path.name,
        id=run_id,
        group=group,
        dir=folder.path,
        config=redact(config),
        mode="online" if mode is LoggerMode.ONLINE else "offline",
        resume="allow" if mode is LoggerMode.ONLINE else None,
        settings=wandb.Settings(
            silent=True,  # it would print who is logged in
            console="off",  # model output on the terminal is not sent
            disable_code=True,
            disable_git=True,
            save_code=False,
            x_disable_meta=True,  # it holds the command line, where a key may have been given
            init_timeout=_START_TIMEOUT_S,
            login_timeout=_START_TIMEOUT_S,
            finish_timeout=_FINISH_TIMEOUT_S,
        ),
    )
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return run


def _without_key(text: str) -> str:
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, REDACTED) if key else text

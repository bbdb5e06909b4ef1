"""What a run leaves behind, step by step: episodes, then figures, then whatever shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from astuner_rl.errors import RunAbortedError
from astuner_rl.tracing.episode_json import LoggedEpisode
from astuner_rl.tracing.episode_log import write_episodes
from astuner_rl.tracing.logger import Logger
from astuner_rl.tracing.metrics import Metrics, MetricsLog
from astuner_rl.tracing.progress import Progress
from astuner_rl.tracing.run_folder import RunFolder
from astuner_rl.types import CallRecord, Episode

MaskedBecause: TypeAlias = Callable[[CallRecord, Episode], str | None]
"""Tells why the tokens of an episode's call are not trained; None if they are."""


class RunJournal:
    """Writes a run's folder and shows its figures.

    Args:
        folder: The run's folder, locked by the caller.
        metrics: The run's figures, open for appending.
        logger: Where they are shown besides.
        progress: The line on the terminal.
        masked_because: Told for every call of the episodes that are trained on.
    """

    def __init__(
        self,
        *,
        folder: RunFolder,
        metrics: MetricsLog,
        logger: Logger,
        progress: Progress,
        masked_because: MaskedBecause,
    ) -> None:
        self._folder = folder
        self._metrics = metrics
        self._logger = logger
        self._progress = progress
        self._masked_because = masked_because

    def record(
        self, step: int, metrics: Metrics, episodes: Mapping[str, Sequence[Episode]]
    ) -> None:
        """Keep the episodes that led to ``step``, by phase, and its figures.

        The figures come last, so a line in ``metrics.jsonl`` means that the step is whole.

        Raises:
            RunAbortedError: The disk is full; what was kept before is untouched.
        """
        for phase, played in episodes.items():
            path = self._folder.episode_file(phase=phase, step=step)
            try:
                write_episodes(path, [self._logged(phase, episode) for episode in played])
            except OSError as error:
                raise RunAbortedError(
                    f"{path}: the episodes of step {step} could not be kept, {error}; the steps "
                    "before are: free space and resume the run"
                ) from error
        self._metrics.append(step, metrics)
        self._logger.log(step, metrics)
        self._progress.update(step, metrics)

    def _logged(self, phase: str, episode: Episode) -> LoggedEpisode:
        if phase != "train":
            return LoggedEpisode(episode=episode, masked=(phase,) * len(episode.calls))
        reasons = tuple(self._masked_because(record, episode) for record in episode.calls)
        return LoggedEpisode(episode=episode, masked=reasons)

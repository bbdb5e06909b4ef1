"""What became of a run: whether it trained its tasks once each, and whether it left whole files.

A task counts as trained by step *s* where its episodes are in the log of that step, none of them
failed, and ``metrics.jsonl`` has a line of the step, which is written last. Two lines of a step
count twice.
That what was trained is what was logged is another question, which equal weights answer, or
``astuner replay``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astuner_gym.task import TaskSource, task_indices
from astuner_rl.errors import CheckpointError
from astuner_rl.learning.checkpoint import checkpoint_folders, load_checkpoint
from astuner_rl.tracing.episode_log import read_episodes
from astuner_rl.tracing.run_folder import RunFolder
from astuner_rl.types import EpisodeStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A task at its place in the order of a run's data."""

    step: int
    """Batch, from 0."""
    position: int
    """In the batch."""
    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that a run is to train."""

    draws: tuple[Draw, ...]
    group_size: int
    """Episodes of each task."""

    @property
    def steps(self) -> int:
        """Batches."""
        return 1 + max(draw.step for draw in self.draws)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is wrong with a run that has ended; all 0 where nothing is."""

    tasks_lost: int
    """Places in the data's order of which an episode was not trained."""
    tasks_doubled: int
    """Places of which an episode was trained more than once, or that are not in the order."""
    corrupt_checkpoints: int
    """Checkpoints that are not whole, or that should be there and are not."""


def order_of(tasks: TaskSource, *, seed: int, steps: int, groups: int, group_size: int) -> Order:
    """Return what a run without dynamic sampling trains."""
    indices = task_indices(seed=seed, size=len(tasks), start=0, count=steps * groups)
    draws = (
        Draw(step=place // groups, position=place % groups, task_id=tasks[index].id)
        for place, index in enumerate(indices)
    )
    return Order(draws=tuple(draws), group_size=group_size)


def audit(folder: Path, order: Order) -> Audit:
    """Look through a run that has come to its end.

    Raises:
        UnusableInputError: A log cannot be read.
    """
    run = RunFolder(folder)
    trained = Counter(_trained(run))
    wanted = Counter((draw, sample) for draw in order.draws for sample in range(order.group_size))
    damaged = damaged_checkpoints(run.checkpoints)
    folders = checkpoint_folders(run.checkpoints)
    last = f"step-{order.steps:06d}"
    missing = 0 if any(path.name == last for path in folders) else 1
    return Audit(
        tasks_lost=len({draw for draw, _ in wanted - trained}),
        tasks_doubled=len({draw for draw, _ in trained - wanted}),
        corrupt_checkpoints=len(damaged) + missing,
    )


def damaged_checkpoints(folder: Path) -> list[Path]:
    """Return those that cannot be loaded, every byte looked at."""
    damaged = []
    for path in checkpoint_folders(folder) if folder.exists() else []:
        try:
            load_checkpoint(path)
        except CheckpointError:
            damaged.append(path)
    return damaged


def difference(folder: Path, reference: Path) -> str:
    """Say where a run differs from another in what their seed names, empty where it does not.

    Compared are the weights of the last checkpoint, bit for bit, the figures but for times, and the
    episodes.
    """
    run, other = RunFolder(folder), RunFolder(reference)
    if _weights(run) != _weights(other):
        return "weights"
    if _figures(run) != _figures(other):
        return "figures"
    if _episodes(run) != _episodes(other):
        return "episodes"
    return ""


def _trained(run: RunFolder) -> Iterator[tuple[Draw, int]]:
    """Yield the place and the sample of every episode, as often as it was trained."""
    lines = Counter(line["step"] for line in _metrics(run))
    for step, times in lines.items():
        path = run.episode_file(phase="train", step=step)
        if step == 0 or not path.exists():
            continue
        for logged in read_episodes(path):
            if logged.episode.status is EpisodeStatus.FAILED:
                continue  # a toy run has no reason to fail but those that it is audited for
            key = logged.episode.key
            draw = Draw(step=key.step, position=key.task, task_id=logged.episode.task_id)
            for _ in range(times):
                yield draw, key.sample


def _metrics(run: RunFolder) -> list[dict[str, Any]]:
    lines = run.metrics.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _figures(run: RunFolder) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if not name.startswith("time/")}
        for line in _metrics(run)
    ]


def _weights(run: RunFolder) -> tuple[str, bytes]:
    last = checkpoint_folders(run.checkpoints)[-1]
    return last.name, (last / "hf/model.safetensors").read_bytes()


def _episodes(run: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.episode_files()}

"""Settings of the training loop, whatever runs it."""

from __future__ import annotations

from dataclasses import dataclass

from astuner_gym.errors import SettingError
from astuner_rl.rules import require_range


@dataclass
class TrainConfig:
    """How much is trained."""

    steps: int = 150
    """Updates of the policy."""
    groups: int = 16
    """Tasks a step; each is the task of one group of episodes."""
    group_size: int = 8
    """Episodes of each task: what a reward is compared with."""
    most_draws: int = 1
    """How often tasks are drawn in one step, at most, until ``groups`` of them have episodes whose
    whole rewards differ; 1 takes the first draw as it is (DAPO's dynamic sampling)."""

    def __post_init__(self) -> None:
        require_range("train.steps", self.steps, low=0)
        require_range("train.groups", self.groups, low=1)
        require_range("train.group_size", self.group_size, low=1)
        require_range("train.most_draws", self.most_draws, low=1)


@dataclass
class OverlapConfig:
    """How far sampling may run ahead of learning."""

    max_staleness: int = 0
    """Updates that the weights which sampled a token may lag behind; 0 is synchronous. What lags
    is trained with ratios to the weights that sampled; ``algo.importance`` corrects for more."""
    in_flight: bool = False
    """Whether replies that are being sampled go on with new weights as soon as there are some,
    each token knowing its version. Otherwise weights change between batches, each of which is
    sampled by those of ``max_staleness`` updates before, and the run repeats bit for bit."""

    def __post_init__(self) -> None:
        require_range("overlap.max_staleness", self.max_staleness, low=0)
        if self.in_flight and self.max_staleness == 0:
            raise SettingError(
                "overlap.in_flight=true needs overlap.max_staleness >= 1, got 0, with which "
                "nothing is in flight when weights change; set overlap.max_staleness=1, or "
                "overlap.in_flight=false"
            )


@dataclass
class EvalConfig:
    """When and on what the policy is measured."""

    every: int = 50
    """Steps between evaluations; 0 evaluates only before the first step and after the last."""
    tasks: int = 256
    """Held-out tasks of each set, from its start; 0 takes them all."""
    samples: int = 1
    """Episodes of each task."""
    temperature: float = 1.0
    """Sampling temperature; 0 is greedy."""

    def __post_init__(self) -> None:
        require_range("eval.every", self.every, low=0)
        require_range("eval.tasks", self.tasks, low=0)
        require_range("eval.samples", self.samples, low=1)
        require_range("eval.temperature", self.temperature, low=0.0)


@dataclass
class CheckpointConfig:
    """When the run is made resumable."""

    every: int = 20
    """Steps between checkpoints; the last step always has one."""
    keep: int = 2
    """How many of the newest checkpoints stay."""

    def __post_init__(self) -> None:
        require_range("checkpoint.every", self.every, low=1)
        require_range("checkpoint.keep", self.keep, low=1)

"""Settings of what runs on Ray."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from astuner_gym.errors import SettingError
from astuner_rl.rules import require_choice, require_positive, require_range

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
"""Ray's strategies of placing actors over nodes."""
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):[0-9]{1,5}")


@dataclass
class SamplerActorsConfig:
    """Actors that sample, each with a model of its own."""

    count: int = 1
    """How many; with 0 the process of the command samples, and plays the episodes too."""
    cpus: float = 1.0
    """Ray's logical CPUs for each: what Ray counts, no bound on threads."""
    gpus: float = 0.0
    """GPUs for each."""


@dataclass
class RolloutActorsConfig:
    """Actors that run workflows and judges."""

    count: int = 0
    """How many; with 0 episodes are played in the process of the command."""
    cpus: float = 1.0
    """Ray's logical CPUs for each."""


@dataclass
class LearnerActorsConfig:
    """Actors that learn together, each a rank of one learner."""

    ranks: int = 1
    """How many; each holds a part of the weights and runs a part of the passes."""
    cpus: float = 1.0
    """Ray's logical CPUs for each."""
    gpus: float = 0.0
    """GPUs for each."""


@dataclass
class RayBackboneConfig:
    """Samplers, rollout workers and learner as actors of a Ray cluster."""

    address: str | None = None
    """Cluster to join: ``<host>:<port>`` of its head, or ``auto`` for the one that this machine
    belongs to. null starts a Ray of its own, which listens on the loopback interface alone and ends
    with the run."""
    samplers: SamplerActorsConfig = field(default_factory=SamplerActorsConfig)
    rollouts: RolloutActorsConfig = field(default_factory=RolloutActorsConfig)
    learner: LearnerActorsConfig = field(default_factory=LearnerActorsConfig)
    threads: int = 1
    """Intra-op threads of each rank on a CPU: more only slow a small model down."""
    strategy: str = "PACK"
    """How actors are placed over the nodes: ``PACK`` on few, ``SPREAD`` over many, or
    ``STRICT_PACK`` and ``STRICT_SPREAD``, which accept nothing else."""
    placement_s: float = 10.0
    """Seconds within which the cluster must have the resources free; more where it grows on
    demand."""
    answer_s: float = 300.0
    """Seconds within which an actor must have started, or started again after it died, before the
    run is given up."""
    object_store_mb: int | None = None
    """Shared memory of the Ray that is started, in MiB; null takes Ray's default, a share of the
    machine's memory."""
    dashboard: bool = False
    """Whether the Ray that is started serves its dashboard, on the loopback interface."""

    def __post_init__(self) -> None:
        address = self.address
        if address is not None and address != "auto" and not _ADDRESS.fullmatch(address):
            raise SettingError(
                "backbone.address must be null, auto or <host>:<port> of a cluster's head, got "
                f"{address!r}; set backbone.address=auto on a machine of the cluster"
            )
        require_range("backbone.samplers.count", self.samplers.count, low=0)
        require_range("backbone.rollouts.count", self.rollouts.count, low=0)
        if self.samplers.count == 0 and self.rollouts.count > 0:
            raise SettingError(
                "backbone.samplers.count must be >= 1 where there are rollout workers, which can "
                "ask no other process for tokens, got 0; set it to 1, or backbone.rollouts.count=0"
            )
        require_range("backbone.learner.ranks", self.learner.ranks, low=1)
        # A share of nothing could be placed anywhere, so Ray refuses to reserve it.
        require_positive("backbone.samplers.cpus", self.samplers.cpus)
        require_positive("backbone.rollouts.cpus", self.rollouts.cpus)
        require_positive("backbone.learner.cpus", self.learner.cpus)
        require_range("backbone.samplers.gpus", self.samplers.gpus, low=0.0)
        require_range("backbone.learner.gpus", self.learner.gpus, low=0.0)
        if self.learner.ranks > 1 and 0 < self.learner.gpus < 1:
            raise SettingError(
                "backbone.learner.gpus must be 0 or >= 1 where there are several ranks, which "
                f"cannot share a GPU, got {self.learner.gpus}; set backbone.learner.gpus=1"
            )
        require_range("backbone.threads", self.threads, low=1)
        require_choice("backbone.strategy", self.strategy, STRATEGIES)
        require_positive("backbone.placement_s", self.placement_s)
        require_positive("backbone.answer_s", self.answer_s)
        if self.object_store_mb is not None:
            # Ray's own least.
            require_range("backbone.object_store_mb", self.object_store_mb, low=75)
        if self.address is not None and (self.dashboard or self.object_store_mb is not None):
            raise SettingError(
                "backbone.dashboard and backbone.object_store_mb are of a Ray that the run starts, "
                f"got backbone.address={self.address}; leave them out, and give them to the "
                "cluster's `ray start`"
            )

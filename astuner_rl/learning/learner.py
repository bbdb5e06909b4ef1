"""What every learner is to the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from astuner_rl.learning.lora import AdapterWeights
from astuner_rl.types import AgentEpisode


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """What one update did."""

    updates: int
    """Number of updates so far, this one included: the version of the new weights."""
    metrics: Mapping[str, float]
    """Figures by metric name; what was not measured is absent."""


class Learner(Protocol):
    """Turns agent-episodes into new weights.

    Two learners in the same state that are given the same batch end in the same state, bit for
    bit, on one machine with one number of threads (CPU, float32).

    A learner of several ranks (``learning.ranks``) is one object in each of them, of which all are
    called together. What the first of them returns is whole and on the CPU; the others return
    ``{}`` for weights and state.
    """

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        """Train on ``episodes``, sorted by key and agent by the caller.

        Raises:
            NonFiniteLossError: Loss or gradient is NaN or infinite; weights, optimizers and
                counters are as they were before the update.
        """
        ...

    def weights(self) -> Mapping[str, Tensor]:
        """Return the policy's weights by name, a tied output head included.

        The tensors are those in use: they change with the next update.
        """
        ...

    def handover(self, *, whole: bool) -> Mapping[str, Tensor]:
        """Return with what a sampler comes to hold ``weights()``; they may be those in use.

        Args:
            whole: False leaves out what adapters are added to, and never changes: the sampler must
                have got it before, from this learner. Without adapters it is ``weights()`` either
                way.
        """
        ...

    def adapters(self) -> AdapterWeights | None:
        """Return the adapters that are trained in place of all weights; None if none are."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all that an exact resume needs; the tensors are those in use, not copies."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned for the same model and settings, on any number of
        ranks; each of them is given all of it.
        """
        ...

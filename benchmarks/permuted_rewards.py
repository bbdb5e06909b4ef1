"""A training run that can learn nothing: ``python -m benchmarks.permuted_rewards env=gsm8k …``.

It takes the settings of ``astuner_rl.train`` and does the same, except that the rewards of every
group are dealt out anew among its episodes before the learner sees them. Advantages then have the
same distribution and say nothing of what the policy did: what still improves is no learning.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from unittest.mock import patch

from torch import Tensor

from astuner_rl import train
from astuner_rl.backbones.loop import TrainingLoop
from astuner_rl.learning.learner import Learner, UpdateReport
from astuner_rl.learning.lora import AdapterWeights
from astuner_rl.types import AgentEpisode


def permute_rewards(episodes: Sequence[AgentEpisode]) -> list[AgentEpisode]:
    """Deal the rewards of each group, episodes of one task and role, out among its episodes.

    The draws are a function of phase, step, task and role alone.
    """
    groups: defaultdict[tuple[str, int, int, str], list[int]] = defaultdict(list)
    for position, unit in enumerate(episodes):
        key = unit.episode
        groups[key.phase, key.step, key.task, unit.role].append(position)
    permuted = list(episodes)
    for name, positions in groups.items():
        dealt = positions.copy()
        Random(repr(name)).shuffle(dealt)
        for position, source in zip(positions, dealt, strict=True):
            permuted[position] = replace(episodes[position], reward=episodes[source].reward)
    return permuted


class PermutingLearner:
    """A learner whose rewards are permuted within groups."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        """Train on the episodes with permuted rewards."""
        return self._learner.update(permute_rewards(episodes))

    def weights(self) -> Mapping[str, Tensor]:
        """Those of the learner."""
        return self._learner.weights()

    def handover(self, *, whole: bool) -> Mapping[str, Tensor]:
        """That of the learner."""
        return self._learner.handover(whole=whole)

    def adapters(self) -> AdapterWeights | None:
        """Those of the learner."""
        return self._learner.adapters()

    def state_dict(self) -> dict[str, Any]:
        """That of the learner."""
        return self._learner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand the state to the learner."""
        self._learner.load_state_dict(state)


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutingLoop(TrainingLoop):
    """The loop of a run, wherever its learner is, with rewards permuted."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "learner", PermutingLearner(self.learner))


def main(settings: Sequence[str]) -> int:
    """Train with permuted rewards and return the exit status; as ``astuner_rl.train.main``."""
    with patch.object(train, "TrainingLoop", PermutingLoop):
        return train.main(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

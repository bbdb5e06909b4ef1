"""The seam between the training loop and whatever plays its episodes."""

from __future__ import annotations

from typing import Protocol

from astuner_gym.environment import Environment
from astuner_gym.task import Task
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.types import Episode, EpisodeKey, SamplingParams


class Runner(Protocol):
    """Plays episodes of one environment with one policy."""

    @property
    def environment(self) -> Environment:
        """Where tasks come from."""
        ...

    @property
    def config(self) -> RolloutConfig:
        """How episodes are played."""
        ...

    async def run(self, task: Task, key: EpisodeKey, *, params: SamplingParams) -> Episode:
        """Play one episode; what goes wrong inside it is in what is returned.

        Raises:
            UnusableInputError: The task's data or a setting is at fault.
            BrokenSamplerError: The policy's sampler cannot answer anybody any more.
            NonFiniteLogitsError: Nor could any other, with the policy's weights.
            BrokenJudgeError: The judge can score nothing any more.
        """
        ...

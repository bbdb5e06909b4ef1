"""GRPO: the baseline of an episode is the mean reward of its group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from astuner_rl.algos.config import GrpoConfig
from astuner_rl.algos.groups import group_advantages
from astuner_rl.algos.weights import Aggregation
from astuner_rl.learning.batch import flatten, minibatch_weights
from astuner_rl.learning.forest_layout import layout_of
from astuner_rl.learning.layout import Layout
from astuner_rl.learning.learner import UpdateReport
from astuner_rl.learning.optimizer import all_or_nothing, schedule_of
from astuner_rl.learning.policy import Policy, policy_metrics
from astuner_rl.types import AgentEpisode


class GrpoLearner:
    """GRPO (Shao et al. 2024, arXiv:2402.03300) over agent-episodes.

    Args:
        model: The policy; trained in place.
        config: Settings of the algorithm.
        updates: Of the whole run; only a learning rate that never falls can do without.
        layout: How rows become forward passes; None takes what suits the model, see ``layout_of``.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: GrpoConfig,
        *,
        updates: int | None = None,
        layout: Layout | None = None,
    ) -> None:
        self._config = config
        self._aggregation = Aggregation(config.aggregation)
        layout = layout or layout_of(model)
        schedule = schedule_of(config, updates=updates)
        self._policy = Policy(model, config, schedule=schedule, layout=layout)
        self._updates = 0

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        """Train on ``episodes``; see :class:`astuner_rl.learning.learner.Learner`."""
        batch = flatten(episodes)
        advantages = group_advantages(
            batch.rewards, batch.group, scale_by_std=self._config.scale_by_std
        )
        targets = self._policy.targets(batch, advantages[batch.unit])
        parts = minibatch_weights(batch, self._config.minibatches, aggregation=self._aggregation)
        passes = []
        # A single step leaves everything as it was if it fails; only several need a copy.
        several = self._config.epochs * len(parts) > 1
        with all_or_nothing(self._policy) if several else nullcontext():
            for _ in range(self._config.epochs):
                steps = [self._policy.step(batch, targets, weights) for weights in parts]
                passes.append([step for step in steps if step is not None])
        self._updates += 1
        return UpdateReport(updates=self._updates, metrics=policy_metrics(batch, targets, passes))

    def weights(self) -> Mapping[str, Tensor]:
        """Return the policy's weights; see :class:`astuner_rl.learning.learner.Learner`."""
        return self._policy.weights()

    def state_dict(self) -> dict[str, Any]:
        """Return all that an exact resume needs."""
        return {"policy": self._policy.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self._policy.load_state_dict(state["policy"])
        self._updates = state["updates"]

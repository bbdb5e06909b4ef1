"""GRPO and its relatives: an advantage for each agent-episode or call, and no critic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from astuner_rl.algos.call_credit import Credit, call_groups, returns_to_go
from astuner_rl.algos.config import Baseline, GrpoConfig
from astuner_rl.algos.groups import group_advantages
from astuner_rl.algos.leave_one_out import leave_one_out_advantages
from astuner_rl.algos.overlong import overlong_penalty
from astuner_rl.algos.weights import Aggregation, token_weights
from astuner_rl.algos.whitening import whiten
from astuner_rl.learning.batch import TokenBatch, flatten, minibatch_weights
from astuner_rl.learning.forest_layout import layout_of
from astuner_rl.learning.layout import Layout
from astuner_rl.learning.learner import UpdateReport
from astuner_rl.learning.lora import AdapterWeights, Lora
from astuner_rl.learning.optimizer import all_or_nothing, schedule_of
from astuner_rl.learning.policy import Policy, policy_metrics
from astuner_rl.learning.ranks import OneProcess, Ranks
from astuner_rl.types import AgentEpisode


class GrpoLearner:
    """GRPO (Shao et al. 2024, arXiv:2402.03300) over agent-episodes, and what settings make of it.

    Args:
        model: The policy; trained in place.
        config: Settings of the algorithm.
        updates: Of the whole run; only a learning rate that never falls can do without.
        layout: How rows become forward passes; None takes what suits the model, see ``layout_of``.
        ranks: Who trains it together; None for this process alone.
        dtype: What the model computes in, while it learns in the type that it has; None for that.
        lora: Adapters that are trained in place of all weights of the policy; None for all.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: GrpoConfig,
        *,
        updates: int | None = None,
        layout: Layout | None = None,
        ranks: Ranks | None = None,
        dtype: torch.dtype | None = None,
        lora: Lora | None = None,
    ) -> None:
        self._config = config
        self._ranks = ranks or OneProcess()
        layout = layout or layout_of(model)
        schedule = schedule_of(config, updates=updates)
        self._policy = Policy(
            model,
            config,
            schedule=schedule,
            layout=layout,
            ranks=self._ranks,
            dtype=dtype,
            lora=lora,
        )
        self._updates = 0

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        """Train on ``episodes``; see :class:`astuner_rl.learning.learner.Learner`."""
        batch = flatten(episodes)
        targets = self._policy.targets(batch, self._advantages(batch))
        parts = minibatch_weights(batch, self._config)
        passes = []
        # A single step leaves everything as it was if it fails; only several need a copy.
        several = self._config.epochs * len(parts) > 1
        with all_or_nothing(self._policy) if several else nullcontext():
            for _ in range(self._config.epochs):
                steps = [self._policy.step(batch, targets, weights) for weights in parts]
                passes.append([step for step in steps if step is not None])
        self._updates += 1
        return UpdateReport(updates=self._updates, metrics=policy_metrics(batch, targets, passes))

    def _advantages(self, batch: TokenBatch) -> Tensor:
        """Return [N] the advantage of each token: that of what has credit, see ``Credit``."""
        config = self._config
        credited = _credited(batch, config)
        match Baseline(config.baseline):
            case Baseline.GROUP:
                advantages = group_advantages(
                    credited.rewards, credited.group, scale_by_std=config.scale_by_std
                )
                return advantages[credited.of_token]
            case Baseline.LEAVE_ONE_OUT:
                return leave_one_out_advantages(credited.rewards, credited.group)[credited.of_token]
            case Baseline.BATCH:
                weights = token_weights(
                    batch.unit, batch.call, aggregation=Aggregation(config.aggregation)
                )
                return whiten(credited.rewards[credited.of_token], weights / weights.sum())

    def weights(self) -> Mapping[str, Tensor]:
        """Return the policy's weights; see :class:`astuner_rl.learning.learner.Learner`."""
        return self._ranks.gather(dict(self._policy.weights()))

    def handover(self, *, whole: bool) -> Mapping[str, Tensor]:
        """Return what a sampler gets; see :class:`astuner_rl.learning.learner.Learner`."""
        return self._ranks.gather(dict(self._policy.handover(whole=whole)))

    def adapters(self) -> AdapterWeights | None:
        """Return the policy's adapters apart from what they adapt; None without any."""
        return self._policy.adapters()

    def state_dict(self) -> dict[str, Any]:
        """Return all that an exact resume needs."""
        return self._ranks.gather({"policy": self._policy.state_dict(), "updates": self._updates})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self._policy.load_state_dict(state["policy"])
        self._updates = state["updates"]


@dataclass(frozen=True, slots=True)
class _Credited:
    """What has an advantage of its own: agent-episodes or calls, K of them."""

    rewards: Tensor
    """[K]."""
    group: Tensor
    """[K] int64; those of one number are compared with each other."""
    of_token: Tensor
    """[N] int64."""


def _credited(batch: TokenBatch, config: GrpoConfig) -> _Credited:
    lengths = torch.bincount(batch.call, minlength=batch.call_limit.numel())
    penalty = overlong_penalty(lengths, batch.call_limit, margin=config.overlong_tokens)
    match Credit(config.credit):
        case Credit.EPISODE:
            # An agent-episode is punished for the longest of its replies beside its limit.
            longest = torch.zeros_like(batch.rewards).scatter_reduce(
                0, batch.call_unit, penalty, "amin"
            )
            return _Credited(batch.rewards + longest, batch.group, batch.unit)
        case Credit.CALL:
            returns = returns_to_go(batch.call_rewards, batch.call_unit)
            groups = call_groups(batch.call_unit, batch.call_index, batch.group)
            return _Credited(returns + penalty, groups, batch.call)

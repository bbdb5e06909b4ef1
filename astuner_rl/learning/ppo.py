"""PPO: a critic values every sampled token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from astuner_rl.algos.config import PpoConfig
from astuner_rl.algos.gae import gae
from astuner_rl.algos.value import explained_variance
from astuner_rl.algos.weights import Aggregation, token_weights
from astuner_rl.algos.whitening import whiten
from astuner_rl.learning.batch import TokenBatch, flatten, minibatch_weights
from astuner_rl.learning.critic import Critic, CriticStep, critic_metrics
from astuner_rl.learning.forest_layout import layout_of
from astuner_rl.learning.layout import Layout
from astuner_rl.learning.learner import UpdateReport
from astuner_rl.learning.lora import AdapterWeights, Lora
from astuner_rl.learning.optimizer import all_or_nothing, schedule_of
from astuner_rl.learning.policy import Policy, PolicyStep, policy_metrics
from astuner_rl.learning.ranks import OneProcess, Ranks
from astuner_rl.learning.token_counts import fed_metrics
from astuner_rl.types import AgentEpisode


class PpoLearner:
    """PPO (Schulman et al. 2017, arXiv:1707.06347) over the sampled tokens of each agent.

    What fell with a call comes with its last sampled token; without rewards by call that is an
    agent-episode's last. Advantages are those of GAE, fixed before the first pass.

    Args:
        model: The policy; trained in place. The critic starts from a copy of its trunk.
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
        config: PpoConfig,
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
        # The policy takes no steps while the critic alone is trained.
        of_policy = None if updates is None else max(0, updates - config.critic_warmup_updates)
        # The critic copies the policy's trunk while its weights are whole.
        self._critic = Critic(
            model,
            config,
            schedule=schedule_of(config, updates=updates),
            layout=layout,
            ranks=self._ranks,
            dtype=dtype,
        )
        self._policy = Policy(
            model,
            config,
            schedule=schedule_of(config, updates=of_policy),
            layout=layout,
            ranks=self._ranks,
            dtype=dtype,
            lora=lora,
        )
        self._updates = 0

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        """Train on ``episodes``; see :class:`astuner_rl.learning.learner.Learner`."""
        config = self._config
        batch = flatten(episodes)
        aggregation = Aggregation(config.aggregation)
        weights = token_weights(batch.unit, batch.call, aggregation=aggregation)
        weights = weights / weights.sum()
        before = self._critic.evaluate(batch)
        advantages = gae(
            before.values,
            batch.token_rewards(),
            batch.unit,
            before.bootstrap,
            discount=config.discount,
            trace_decay=config.trace_decay,
        )
        returns = advantages + before.values
        if config.whiten_advantages:
            advantages = whiten(advantages, weights)
        targets = self._policy.targets(batch, advantages)
        trains_policy = self._updates >= config.critic_warmup_updates
        parts = minibatch_weights(batch, config)
        policy_passes: list[list[PolicyStep]] = []
        critic_steps: list[CriticStep] = []
        with all_or_nothing(self._policy, self._critic):
            for _ in range(config.epochs):
                policy_steps = []
                for part in parts:
                    critic_steps.append(self._critic.step(batch, before.values, returns, part))
                    if trains_policy:
                        policy_steps.append(self._policy.step(batch, targets, part))
                policy_passes.append([step for step in policy_steps if step is not None])
        self._updates += 1
        if trains_policy:
            metrics = policy_metrics(batch, targets, policy_passes)
        else:
            metrics = _warmup_metrics(batch, critic_steps[: len(parts)])
        metrics |= critic_metrics(critic_steps)
        explained = explained_variance(before.values, returns, weights)
        metrics["critic/explained_variance"] = explained.item()
        return UpdateReport(updates=self._updates, metrics=metrics)

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
        """Return all that an exact resume needs, the critic included."""
        return self._ranks.gather(
            {
                "policy": self._policy.state_dict(),
                "critic": self._critic.state_dict(),
                "updates": self._updates,
            }
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self._policy.load_state_dict(state["policy"])
        self._critic.load_state_dict(state["critic"])
        self._updates = state["updates"]


def _warmup_metrics(batch: TokenBatch, critic_steps: Sequence[CriticStep]) -> dict[str, float]:
    """Return the token counts of an update in which the critic alone was trained.

    Args:
        batch: What it was trained on.
        critic_steps: Of one pass over the batch.
    """
    everything = torch.ones(batch.units, dtype=torch.bool)
    return {
        "tokens/trained": 0,
        "tokens/masked/critic_warmup": batch.unit.numel(),
        **fed_metrics(
            (step.fed for step in critic_steps),
            rows=batch.rows_of(everything),
            dense_tokens=batch.dense_tokens_of(everything),
        ),
    }

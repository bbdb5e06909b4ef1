"""The critic: a value for every state in which the policy sampled a token."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from astuner_rl.algos.config import PpoConfig
from astuner_rl.algos.value import clipped_value_loss
from astuner_rl.learning.batch import TokenBatch
from astuner_rl.learning.forest_layout import forest_passes
from astuner_rl.learning.layout import Layout, Microbatch, Row
from astuner_rl.learning.optimizer import GuardedAdamW, Schedule
from astuner_rl.learning.ranks import Ranks
from astuner_rl.learning.token_counts import FedTokens
from astuner_rl.learning.tree_run import TreeRun, run_pass

_ONE_TOKEN = Microbatch(
    input_ids=torch.zeros((1, 1), dtype=torch.int64),
    position_ids=torch.zeros((1, 1), dtype=torch.int64),
    branching=None,
    reads=torch.zeros(1, dtype=torch.int64),
    slots=torch.zeros(1, dtype=torch.int64),
    fed_tokens=1,
)
"""The shortest pass."""


class ValueNetwork(nn.Module):
    """A trunk of its own, copied from the policy, and a linear head that starts at 0.

    The copy is the warm start: the critic reads tokens as well as the policy does from its first
    update, and until it has learned something every value is 0, which makes the advantages the
    plain returns.
    """

    def __init__(self, policy: PreTrainedModel) -> None:
        super().__init__()
        self.trunk: nn.Module = copy.deepcopy(policy.get_decoder())  # type: ignore[no-untyped-call]
        width = policy.config.get_text_config().hidden_size
        self.head = nn.Linear(width, 1, bias=True, device=policy.device, dtype=policy.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, microbatch: Microbatch, run: TreeRun | None = None) -> Tensor:
        """Return the values of the states that ``microbatch`` reads, [R], at least float32.

        Args:
            microbatch: The pass.
            run: Of all passes of the layout; None for a pass alone.
        """
        on_device = microbatch.to(self.head.weight.device)
        hidden = run_pass(self.trunk, on_device, run).last_hidden_state
        states = hidden.flatten(0, 1).index_select(0, on_device.reads)
        values: Tensor = self.head(states).squeeze(-1)
        return values.to(torch.promote_types(values.dtype, torch.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class StateValues:
    """What a critic says about a batch."""

    values: Tensor
    """[N] float64, value of the state in which each token was sampled."""
    bootstrap: Tensor
    """[U] float64, value after the last sampled token; 0 where the episode was not truncated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticStep:
    """Figures of one optimizer step."""

    loss: float
    grad_norm: float
    fed: FedTokens


class Critic:
    """A value network and its optimizer.

    Args:
        policy: Whose trunk is copied.
        config: Loss and optimizer.
        schedule: Of the learning rate, by optimizer steps.
        layout: How rows become forward passes.
        ranks: Who trains it together.
        dtype: What it computes in, while it learns in the type of the policy; None for that.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        config: PpoConfig,
        *,
        schedule: Schedule,
        layout: Layout,
        ranks: Ranks,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._config = config
        self._layout = layout
        self._ranks = ranks
        network = ValueNetwork(policy).train(False)
        self._network = network
        self._weights = ranks.keep(network, probe=lambda: network(_ONE_TOKEN).sum(), dtype=dtype)
        self._optimizer = GuardedAdamW(
            self._weights.parameters,
            lr=3 * config.lr if config.critic_lr is None else config.critic_lr,
            schedule=schedule,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
        )

    @torch.no_grad()
    def evaluate(self, batch: TokenBatch) -> StateValues:
        """Return the value of every state of ``batch``, and of those in which it was cut short."""
        tokens = batch.unit.numel()
        readings = torch.zeros(tokens + batch.units, dtype=torch.float64)
        rows = [row for unit in range(batch.units) for row in _rows_with_final_state(batch, unit)]
        run = TreeRun()
        with self._weights.passes():
            for microbatch in self._passes(rows):
                readings[microbatch.slots] = self._network(microbatch, run).to(readings)
        # Each is read by one rank and 0 on the others.
        readings = self._ranks.total(readings)
        return StateValues(values=readings[:tokens], bootstrap=readings[tokens:])

    def step(
        self, batch: TokenBatch, old_values: Tensor, returns: Tensor, weights: Tensor
    ) -> CriticStep:
        """Take one optimizer step on the clipped value loss; the figures are those of all ranks.

        Args:
            batch: With N tokens.
            old_values: [N] before the update.
            returns: [N] what the values are fitted to.
            weights: [N], 0 outside the step's part of the batch.

        Raises:
            NonFiniteLossError: Loss or gradient is NaN or infinite; no step was taken.
        """
        total = 0.0
        fed = FedTokens()
        run = TreeRun(recompute=self._config.gradient_checkpointing)
        with self._weights.training_passes():
            for microbatch in self._passes(batch.rows_of(batch.units_of(weights > 0))):
                values = self._network(microbatch, run)
                slots = microbatch.slots
                loss = clipped_value_loss(
                    values,
                    old_values[slots].to(values),
                    returns[slots].to(values),
                    weights[slots].to(values),
                    clip=self._config.value_clip,
                )
                run.backward(loss)
                total += loss.item()
                fed.add(microbatch)
            run.finish()
        mine = torch.tensor([total, fed.forward, fed.padding], dtype=torch.float64)
        total, forward, padding = self._ranks.total(mine).tolist()
        norm = self._optimizer.step(loss=total)
        self._weights.moved()
        return CriticStep(
            loss=total,
            grad_norm=norm,
            fed=FedTokens(forward=round(forward), padding=round(padding)),
        )

    def _passes(self, rows: Sequence[Row]) -> list[Microbatch]:
        """Return the passes of this rank's share of the rows."""
        share = self._ranks.share(rows, merges=self._layout is forest_passes)
        return self._layout(share, microbatch_tokens=self._config.microbatch_tokens)

    def state_dict(self) -> dict[str, Any]:
        """Return weights and optimizer; the tensors are those in use, not copies."""
        return {"network": self._weights.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned for the same model and settings, or the whole
        tensors of it.
        """
        self._weights.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])


def critic_metrics(steps: Sequence[CriticStep]) -> dict[str, float]:
    """Return the metrics of an update from its steps; empty without a step."""
    if not steps:
        return {}
    return {
        "critic/loss": sum(step.loss for step in steps) / len(steps),
        "critic/grad_norm": sum(step.grad_norm for step in steps) / len(steps),
    }


def _rows_with_final_state(batch: TokenBatch, unit: int) -> tuple[Row, ...]:
    """Return the rows of an agent-episode; if it was truncated, the state after its last sampled
    token is read too and filed under slot ``N + unit``.
    """
    last = int(batch.last_tokens()[unit])
    if last < 0 or not batch.truncated[unit]:
        return batch.rows[unit]
    slot = batch.unit.numel() + unit
    return tuple(
        replace(row, reads=(*row.reads, row.reads[-1] + 1), slots=(*row.slots, slot))
        if row.slots[-1] == last
        else row
        for row in batch.rows[unit]
    )

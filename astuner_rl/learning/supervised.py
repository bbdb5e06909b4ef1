"""Supervised fine-tuning on given tokens: cross-entropy at the positions a mask names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from astuner_gym.errors import SettingError
from astuner_rl.algos.config import LARGEST_LR, Decay
from astuner_rl.learning.forest_layout import one_row_a_call
from astuner_rl.learning.layout import Layout, Row, padded_rows
from astuner_rl.learning.master_weights import MasterWeights
from astuner_rl.learning.module_weights import ModuleWeights, WholeWeights
from astuner_rl.learning.optimizer import GuardedAdamW, WarmupDecay
from astuner_rl.learning.recomputation import require_blocks
from astuner_rl.learning.scoring import read_logits
from astuner_rl.learning.token_counts import FedTokens, fed_metrics
from astuner_rl.learning.tree_run import TreeRun
from astuner_rl.paths import absolute
from astuner_rl.rules import require_choice, require_positive, require_range


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedExample:
    """Tokens, and which of them are to be learned."""

    token_ids: tuple[int, ...]
    """[T]."""
    mask: tuple[bool, ...]
    """[T] True on targets, an end-of-turn token included; the first token has no context and
    cannot be one."""


@dataclass(kw_only=True)
class SupervisedConfig:
    """Settings of supervised fine-tuning. Not frozen: Hydra refuses overrides of frozen ones."""

    lr: float = 1e-3
    """Learning rate after warm-up."""
    warmup_steps: int = 20
    """Optimizer steps over which the learning rate rises linearly."""
    decay: str = Decay.COSINE.value
    """How the learning rate falls to 0 over the run: ``constant`` (not at all), ``linear`` or
    ``cosine``."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this 2-norm."""
    batch_tokens: int = 4096
    """Tokens, padding included, of one optimizer step."""
    microbatch_tokens: int = 8192
    """Tokens, padding included, of one forward pass."""
    gradient_checkpointing: bool = False
    """Whether layers are computed again for their gradients: memory for one more forward pass."""
    path: str | None = None
    """JSONL of demonstrations, ``messages`` and ``tools`` in OpenAI's format; null imitates those
    of the environment."""
    examples: int = 10_000
    """How many demonstrations are imitated, from the first; fewer if there are fewer."""

    def __post_init__(self) -> None:
        require_range("algo.lr", self.lr, low=0.0, high=LARGEST_LR)
        require_range("algo.warmup_steps", self.warmup_steps, low=0)
        require_choice("algo.decay", self.decay, tuple(Decay))
        require_range("algo.weight_decay", self.weight_decay, low=0.0)
        require_positive("algo.max_grad_norm", self.max_grad_norm)
        require_range("algo.batch_tokens", self.batch_tokens, low=1)
        require_range("algo.microbatch_tokens", self.microbatch_tokens, low=1)
        require_range("algo.examples", self.examples, low=1)
        # Absolute, so that a run resumed from another folder finds the same file.
        self.path = absolute(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedReport:
    """Figures of one optimizer step."""

    loss: float
    """Mean cross-entropy of the step's targets, in nats, before the step."""
    lr: float
    grad_norm: float
    target_tokens: int
    fed: Mapping[str, float]
    """By metric name, see ``fed_metrics``; a call's reply is what one of its rows reads."""


class SupervisedLearner:
    """Fits a model to examples, one optimizer step at a time.

    Args:
        model: Trained in place, with dropout switched off.
        config: Optimizer and cut into passes.
        total_steps: Optimizer steps of the run, for the decay of the learning rate.
        layout: How rows become forward passes.
        dtype: What the model computes in, while it learns in the type that it has; None for that.

    Raises:
        SettingError: The model does not admit gradient checkpointing.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: SupervisedConfig,
        *,
        total_steps: int,
        layout: Layout = padded_rows,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._model = model
        model.train(False)
        if config.gradient_checkpointing:
            require_blocks(model)
        self._recompute = config.gradient_checkpointing
        self._weights: ModuleWeights = (
            WholeWeights(model) if dtype is None else MasterWeights(model, dtype)
        )
        self._layout = layout
        self._microbatch_tokens = config.microbatch_tokens
        self._optimizer = GuardedAdamW(
            self._weights.parameters,
            lr=config.lr,
            schedule=WarmupDecay(
                warmup_steps=config.warmup_steps, total_steps=total_steps, decay=Decay(config.decay)
            ),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
        )

    def step(self, examples: Sequence[SupervisedExample]) -> SupervisedReport:
        """Take one optimizer step on the mean cross-entropy of the examples' targets.

        Raises:
            SettingError: No token is a target.
            NonFiniteLossError: Loss or gradient is NaN or infinite; no step was taken.
        """
        rows, targets = _rows(examples)
        lr = self._optimizer.lr
        loss = 0.0
        fed = FedTokens()
        run = TreeRun(recompute=self._recompute)
        for microbatch in self._layout(rows, microbatch_tokens=self._microbatch_tokens):
            logits = read_logits(self._model, microbatch.to(self._model.device), run=run)
            at = targets[microbatch.slots].to(logits.device)
            share = torch.nn.functional.cross_entropy(logits, at, reduction="sum") / len(targets)
            run.backward(share)
            loss += share.item()
            fed.add(microbatch)
        run.finish()
        norm = self._optimizer.step(loss=loss)
        self._weights.moved()
        return SupervisedReport(
            loss=loss,
            lr=lr,
            grad_norm=norm,
            target_tokens=len(targets),
            fed=fed_metrics(
                [fed], rows=rows, dense_tokens=sum(len(row.fed) for row in one_row_a_call(rows))
            ),
        )

    @torch.no_grad()
    def evaluate(self, examples: Sequence[SupervisedExample]) -> float:
        """Return the mean cross-entropy of the examples' targets, in nats.

        Raises:
            SettingError: No token is a target.
        """
        rows, targets = _rows(examples)
        total = 0.0
        run = TreeRun()
        for microbatch in self._layout(rows, microbatch_tokens=self._microbatch_tokens):
            logits = read_logits(self._model, microbatch.to(self._model.device), run=run)
            at = targets[microbatch.slots].to(logits.device)
            total += torch.nn.functional.cross_entropy(logits, at, reduction="sum").item()
        return total / len(targets)

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights by name, a tied output head included; not copies."""
        return self._weights.computed()

    def adapters(self) -> None:
        """Return None: all weights are trained."""
        return

    def state_dict(self) -> dict[str, Any]:
        """Return all that an exact resume needs; the tensors are those in use, not copies."""
        return {"model": self._weights.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned for the same model and settings."""
        self._weights.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])


def length_grouped_batches(
    lengths: Sequence[int], *, batch_tokens: int, seed: int, epoch: int, window: int = 1024
) -> list[list[int]]:
    """Return one pass over examples as batches of similar length, hence of little padding.

    Examples are shuffled, sorted by length within windows, cut into batches whose padded size
    stays within ``batch_tokens``, and the batches are shuffled: a function of the arguments alone,
    so a resumed run continues by skipping the batches that it has seen.

    Args:
        lengths: Tokens of each example.
        batch_tokens: Tokens, padding included, of a batch; a longer example is a batch alone.
        seed: The run's seed.
        epoch: Which pass.
        window: Examples among which lengths are compared.

    Returns:
        Batches of indices into ``lengths``; every index once.
    """
    random = Random(f"supervised-order/{seed}/{epoch}")
    order = list(range(len(lengths)))
    random.shuffle(order)
    batches = []
    for start in range(0, len(order), window):
        batch: list[int] = []
        for index in sorted(order[start : start + window], key=lambda index: -lengths[index]):
            if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
                batches.append(batch)
                batch = []
            batch.append(index)
        batches.append(batch)
    random.shuffle(batches)
    return batches


def _rows(examples: Sequence[SupervisedExample]) -> tuple[list[Row], Tensor]:
    """Return the rows that read each target's state, and the targets ``[N]`` by slot."""
    rows: list[Row] = []
    targets: list[int] = []
    for example in examples:
        if len(example.mask) != len(example.token_ids):
            raise ValueError(
                f"mask and tokens must be equally long, got {len(example.mask)} and "
                f"{len(example.token_ids)}"
            )
        positions = [position for position, chosen in enumerate(example.mask) if chosen]
        if not positions:
            continue
        if positions[0] == 0:
            raise ValueError("the first token has no context and cannot be a target; unmask it")
        slots = range(len(targets), len(targets) + len(positions))
        targets += [example.token_ids[position] for position in positions]
        reads = tuple(position - 1 for position in positions)
        rows.append(Row(token_ids=example.token_ids, reads=reads, slots=tuple(slots)))
    if not targets:
        raise SettingError(
            f"a step needs at least one target token, got none in {len(examples)} examples; "
            "give examples in which the assistant speaks"
        )
    return rows, torch.tensor(targets, dtype=torch.int64)

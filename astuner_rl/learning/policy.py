"""The policy under training: one optimizer step on the clipped surrogate."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from astuner_gym.errors import SettingError
from astuner_rl.algos.cispo import cispo_loss
from astuner_rl.algos.config import Ratio, Surrogate, SurrogateConfig
from astuner_rl.algos.divergence import KlEstimator, kl_k3, kl_penalty
from astuner_rl.algos.entropy import entropy_bonus
from astuner_rl.algos.importance import Importance, importance_weights
from astuner_rl.algos.sequence_ratio import sequence_log_ratio
from astuner_rl.algos.surrogate import clipped_surrogate_loss, is_clipped
from astuner_rl.learning.batch import TokenBatch
from astuner_rl.learning.forest_layout import forest_passes
from astuner_rl.learning.layout import Layout, Row
from astuner_rl.learning.lora import AdapterWeights, Lora, LoraWeights, with_adapters
from astuner_rl.learning.module_weights import ModuleWeights
from astuner_rl.learning.optimizer import GuardedAdamW, Schedule
from astuner_rl.learning.ranks import OneProcess, Ranks
from astuner_rl.learning.recomputation import require_blocks
from astuner_rl.learning.scoring import TokenScores, score, token_logprobs
from astuner_rl.learning.token_counts import FedTokens, fed_metrics
from astuner_rl.learning.tree_run import TreeRun


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTargets:
    """What the tokens of a batch are trained towards, in every pass over it."""

    advantages: Tensor
    """[N] float64."""
    old_logprobs: Tensor
    """[N] float64, what ratios are relative to: as sampled, or, where the difference between
    sampler and learner is corrected for, those of the learner before the update."""
    importance: Tensor | None
    """[N] float64, factor of each token's weight by that correction; None without it."""
    trained: Tensor
    """[U] bool: agent-episodes with a gradient; the others are not run at all."""
    ignored: Tensor
    """[N] bool: tokens that would be trained but for a factor of 0."""
    reference_logprobs: Tensor | None
    """[N] float64 under the frozen reference; None where its divergence costs nothing."""


@dataclass(slots=True, kw_only=True)
class PolicyStep:
    """Figures of one optimizer step; sums run over its tokens."""

    lr: float
    tokens: int = 0
    fed: FedTokens = field(default_factory=FedTokens)
    loss: float = 0.0
    grad_norm: float = 0.0
    kl: float = 0.0
    """Sum of k3, the divergence from the policy that sampled."""
    reference_kl: float = 0.0
    """Sum of k3, the divergence from the reference."""
    entropy: float = 0.0
    clipped: float = 0.0
    importance: float = 0.0
    """Sum of the factors that correct for the sampler."""
    corrected: float = 0.0
    """Number of tokens whose factor was bounded or made 0."""
    logprob_gap: float = 0.0
    """Largest difference between a recorded log-prob and the policy's before the step."""

    def over(self, ranks: Ranks) -> PolicyStep:
        """Return the figures of all ranks together, given those of this one."""
        fed = self.fed
        mine = [
            self.loss,
            self.kl,
            self.reference_kl,
            self.entropy,
            self.clipped,
            self.importance,
            self.corrected,
            self.tokens,
            fed.forward,
            fed.padding,
        ]
        sums = ranks.total(torch.tensor(mine, dtype=torch.float64)).tolist()
        loss, kl, reference_kl, entropy, clipped, importance, corrected, *counts = sums
        tokens, forward, padding = (round(count) for count in counts)
        return PolicyStep(
            lr=self.lr,
            tokens=tokens,
            fed=FedTokens(forward=forward, padding=padding),
            loss=loss,
            grad_norm=self.grad_norm,
            kl=kl,
            reference_kl=reference_kl,
            entropy=entropy,
            clipped=clipped,
            importance=importance,
            corrected=corrected,
            logprob_gap=ranks.largest(self.logprob_gap),
        )


class Policy:
    """A causal language model, its optimizer and, where its divergence costs, its initial copy.

    Dropout is switched off: the policy that is trained is the one that sampled.

    Args:
        model: Trained in place.
        config: Loss and optimizer.
        schedule: Of the learning rate, by optimizer steps.
        layout: How rows become forward passes.
        ranks: Who trains it together.
        dtype: What it computes in, while it learns in the type that it has; None for that.
        lora: Adapters that are trained in place of all weights; the model holds what they come to.

    Raises:
        SettingError: The model does not admit gradient checkpointing, or there are adapters and
            either several ranks or no peft.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: SurrogateConfig,
        *,
        schedule: Schedule,
        layout: Layout,
        ranks: Ranks,
        dtype: torch.dtype | None = None,
        lora: Lora | None = None,
    ) -> None:
        model.train(False)
        self._lora: LoraWeights | None = None
        if config.gradient_checkpointing:
            require_blocks(model)
        self._reference: _Network | None = None
        if config.kl_coefficient > 0:
            frozen = copy.deepcopy(model).requires_grad_(False)
            self._reference = _Network.kept(frozen, ranks, dtype)
        if lora is None:
            self._trained = _Network.kept(model, ranks, dtype)
        else:
            if not isinstance(ranks, OneProcess):
                raise SettingError(
                    f"LoRA is trained in one process, got {type(ranks).__name__}; set "
                    "model.lora_rank=0, or train without ranks"
                )
            adapted = _Network.kept(with_adapters(model, lora), ranks, dtype)
            self._lora = LoraWeights(adapted.model, adapted.weights, merged=model, lora=lora)
            self._trained = _Network(adapted.model, self._lora)
        self._ranks = ranks
        self._config = config
        self._layout = layout
        self._kl_estimator = KlEstimator(config.kl_estimator)
        self._ratio = Ratio(config.ratio)
        self._surrogate = Surrogate(config.surrogate)
        self._importance = Importance(config.importance)
        self._optimizer = GuardedAdamW(
            self._trained.weights.parameters,
            lr=config.lr,
            schedule=schedule,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
        )

    def targets(self, batch: TokenBatch, advantages: Tensor) -> PolicyTargets:
        """Fix what the passes over ``batch`` train towards.

        An agent-episode whose advantages or factors are all 0 has no gradient unless a penalty or
        bonus gives it one, so it is left out of the passes. Its weight in the means is kept.

        Args:
            batch: With N tokens.
            advantages: [N].
        """
        all_train = self._config.kl_coefficient > 0 or self._config.entropy_coefficient > 0
        if all_train:
            trained = torch.ones(batch.units, dtype=torch.bool)
        else:
            trained = batch.units_of(advantages != 0)
        rows = batch.rows_of(trained)
        old_logprobs, importance = batch.old_logprobs, None
        ignored = torch.zeros_like(batch.unit, dtype=torch.bool)
        if self._importance is not Importance.NONE:
            old_logprobs = self._logprobs(self._trained, batch, rows)
            importance = importance_weights(
                old_logprobs,
                batch.old_logprobs,
                kind=self._importance,
                bound=self._config.importance_bound,
            )
            if not all_train:
                # NaN is no factor, and has to be found by the loss.
                ignored = trained[batch.unit] & (importance == 0) & ~old_logprobs.isnan()
                trained = batch.units_of((advantages != 0) & ~ignored)
        reference_logprobs = None
        if self._reference is not None:
            reference_logprobs = self._logprobs(self._reference, batch, rows)
        return PolicyTargets(
            advantages=advantages,
            old_logprobs=old_logprobs,
            importance=importance,
            trained=trained,
            ignored=ignored,
            reference_logprobs=reference_logprobs,
        )

    def _logprobs(self, network: _Network, batch: TokenBatch, rows: Sequence[Row]) -> Tensor:
        """Return [N] the log-prob of every token that ``rows`` read, NaN for the others."""
        with network.weights.passes():
            logprobs = token_logprobs(
                network.model,
                batch,
                self._share(rows),
                layout=self._layout,
                microbatch_tokens=self._config.microbatch_tokens,
            )
        return self._ranks.combined(logprobs)

    def _share(self, rows: Sequence[Row]) -> list[Row]:
        return self._ranks.share(rows, merges=self._layout is forest_passes)

    def step(self, batch: TokenBatch, targets: PolicyTargets, weights: Tensor) -> PolicyStep | None:
        """Take one optimizer step.

        Args:
            batch: With N tokens.
            targets: From :meth:`targets`.
            weights: [N], 0 outside the step's part of the batch.

        Returns:
            Its figures, those of all ranks together, or None where no token has a gradient: no
            step is taken then, since old moments alone would move the weights.

        Raises:
            NonFiniteLossError: Loss or gradient is NaN or infinite; no step was taken.
        """
        rows = batch.rows_of(batch.units_of(weights > 0) & targets.trained)
        if not rows:
            return None
        log_ratio = None
        if self._ratio is Ratio.SEQUENCE:
            # A reply's tokens may lie in several micro-batches, so its ratio is found beforehand.
            log_ratio = sequence_log_ratio(
                self._logprobs(self._trained, batch, rows), targets.old_logprobs, batch.call
            )
        figures = PolicyStep(lr=self._optimizer.lr)
        with self._trained.weights.training_passes():
            self._run(
                self._share(rows),
                figures,
                batch=batch,
                targets=targets,
                weights=weights,
                log_ratio=log_ratio,
            )
        figures = figures.over(self._ranks)
        figures.grad_norm = self._optimizer.step(loss=figures.loss)
        self._trained.weights.moved()
        return figures

    def _run(
        self,
        rows: Sequence[Row],
        figures: PolicyStep,
        *,
        batch: TokenBatch,
        targets: PolicyTargets,
        weights: Tensor,
        log_ratio: Tensor | None,
    ) -> None:
        """Add up the gradients of ``rows`` and what they bring to the figures of the step."""
        run = TreeRun(recompute=self._config.gradient_checkpointing)
        for microbatch in self._layout(rows, microbatch_tokens=self._config.microbatch_tokens):
            scores = score(
                self._trained.model,
                microbatch,
                batch,
                run=run,
                entropy_gradient=self._config.entropy_coefficient > 0,
            )
            tokens = _gather(batch, targets, weights, microbatch.slots, like=scores.logprobs)
            if log_ratio is not None:
                tokens = _relative_to_reply(tokens, scores, log_ratio[microbatch.slots])
            loss = self._loss(scores, tokens)
            run.backward(loss)
            figures.loss += loss.item()
            self._observe(scores, tokens, figures)
            figures.fed.add(microbatch)
        run.finish()

    def _loss(self, scores: TokenScores, tokens: _Tokens) -> Tensor:
        """Return one micro-batch's share of the loss."""
        config = self._config
        surrogate = cispo_loss if self._surrogate is Surrogate.CISPO else clipped_surrogate_loss
        loss = surrogate(
            scores.logprobs,
            tokens.old_logprobs,
            tokens.advantages,
            tokens.surrogate_weights,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
        )
        if config.entropy_coefficient > 0:
            bonus = entropy_bonus(scores.entropies, tokens.weights)
            loss = loss - config.entropy_coefficient * bonus
        if tokens.reference_logprobs is not None:
            penalty = kl_penalty(
                scores.logprobs,
                tokens.reference_logprobs,
                tokens.weights,
                estimator=self._kl_estimator,
            )
            loss = loss + config.kl_coefficient * penalty
        return loss

    @torch.no_grad()
    def _observe(self, scores: TokenScores, tokens: _Tokens, figures: PolicyStep) -> None:
        """Add one micro-batch to the figures of its step."""
        logprobs = scores.logprobs
        clipped = is_clipped(
            logprobs,
            tokens.old_logprobs,
            tokens.advantages,
            clip_low=self._config.clip_low,
            clip_high=self._config.clip_high,
        )
        # A pass of tokens that all replies share may read nothing.
        gaps = (logprobs - tokens.sampler_logprobs).abs()
        gap = gaps.max().item() if gaps.numel() else 0.0
        figures.tokens += logprobs.numel()
        figures.kl += kl_k3(tokens.sampler_logprobs, logprobs).sum().item()
        figures.entropy += scores.entropies.sum().item()
        figures.clipped += clipped.sum().item()
        figures.logprob_gap = max(figures.logprob_gap, gap)
        if tokens.importance is not None:
            bound = self._config.importance_bound
            figures.importance += tokens.importance.sum().item()
            figures.corrected += (
                ((tokens.importance >= bound) | (tokens.importance == 0)).sum().item()
            )
        if tokens.reference_logprobs is not None:
            figures.reference_kl += kl_k3(logprobs, tokens.reference_logprobs).sum().item()

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights by name, a tied output head included; this rank's parts."""
        return self._trained.weights.computed()

    def handover(self, *, whole: bool) -> Mapping[str, Tensor]:
        """Return what a sampler gets; see :class:`astuner_rl.learning.learner.Learner`."""
        return self.weights() if self._lora is None else self._lora.handover(whole=whole)

    def adapters(self) -> AdapterWeights | None:
        """Return the adapters apart from what they adapt; None without any."""
        return None if self._lora is None else self._lora.adapters()

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer and reference; the tensors are those in use, not copies."""
        state = {
            "model": self._trained.weights.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        if self._reference is not None:
            state["reference"] = self._reference.weights.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned for the same model and settings, or the whole
        tensors of it.
        """
        self._trained.weights.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._reference is not None:
            self._reference.weights.load_state_dict(state["reference"])


@dataclass(frozen=True, slots=True)
class _Network:
    """A language model and how its weights are kept."""

    model: PreTrainedModel
    weights: ModuleWeights

    @classmethod
    def kept(cls, model: PreTrainedModel, ranks: Ranks, dtype: torch.dtype | None) -> _Network:
        def probe() -> Tensor:
            token = torch.zeros((1, 1), dtype=torch.int64, device=model.device)
            logits: Tensor = model(input_ids=token, position_ids=token, use_cache=False).logits
            return logits.sum()

        return cls(model, ranks.keep(model, probe=probe, dtype=dtype))


def policy_metrics(
    batch: TokenBatch, targets: PolicyTargets, passes: Sequence[Sequence[PolicyStep]]
) -> dict[str, float]:
    """Return the metrics of an update from its steps.

    ``policy/kl``, ``policy/entropy`` and ``policy/clip_fraction`` are means over the tokens of all
    passes. ``policy/kl_sampler`` and ``policy/logprob_gap_max`` are those of the first step, in
    which the weights are still those before the update: on a batch that they sampled, they show
    what sampler and learner disagree about. What was fed is that of the first pass. Without a step
    there are counts alone.

    Args:
        batch: What was trained on.
        targets: Which of its agent-episodes had a gradient.
        passes: Steps of each pass over the batch.
    """
    trained = int((targets.trained[batch.unit] & ~targets.ignored).sum())
    ignored = int(targets.ignored.sum())
    metrics: dict[str, float] = {
        "tokens/trained": trained,
        "tokens/masked/zero_advantage": batch.unit.numel() - trained - ignored,
        "tokens/masked/importance": ignored,
        **fed_metrics(
            (step.fed for step in passes[0]),
            rows=batch.rows_of(targets.trained),
            dense_tokens=batch.dense_tokens_of(targets.trained),
        ),
    }
    steps = [step for steps_of_pass in passes for step in steps_of_pass]
    if not steps:
        return metrics
    tokens = sum(step.tokens for step in steps)
    metrics |= {
        "loss": sum(step.loss for step in steps) / len(steps),
        "lr": steps[-1].lr,
        "policy/grad_norm": sum(step.grad_norm for step in steps) / len(steps),
        "policy/kl": sum(step.kl for step in steps) / tokens,
        "policy/entropy": sum(step.entropy for step in steps) / tokens,
        "policy/clip_fraction": sum(step.clipped for step in steps) / tokens,
        "policy/kl_sampler": steps[0].kl / steps[0].tokens,
        "policy/logprob_gap_max": steps[0].logprob_gap,
    }
    if targets.importance is not None:
        metrics["policy/importance"] = sum(step.importance for step in steps) / tokens
        metrics["policy/importance_bounded"] = sum(step.corrected for step in steps) / tokens
    if targets.reference_logprobs is not None:
        metrics["policy/kl_reference"] = sum(step.reference_kl for step in steps) / tokens
    return metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tokens:
    """The tokens of one micro-batch, in the type and on the device of its log-probs."""

    sampler_logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    weights: Tensor
    importance: Tensor | None
    reference_logprobs: Tensor | None

    @property
    def surrogate_weights(self) -> Tensor:
        """Weights in the surrogate, importance included."""
        return self.weights if self.importance is None else self.weights * self.importance


def _gather(
    batch: TokenBatch, targets: PolicyTargets, weights: Tensor, slots: Tensor, *, like: Tensor
) -> _Tokens:
    def at_slots(values: Tensor) -> Tensor:
        return values[slots].to(like)

    importance, reference = targets.importance, targets.reference_logprobs
    return _Tokens(
        sampler_logprobs=at_slots(batch.old_logprobs),
        old_logprobs=at_slots(targets.old_logprobs),
        advantages=at_slots(targets.advantages),
        weights=at_slots(weights),
        importance=None if importance is None else at_slots(importance),
        reference_logprobs=None if reference is None else at_slots(reference),
    )


def _relative_to_reply(tokens: _Tokens, scores: TokenScores, log_ratio: Tensor) -> _Tokens:
    """Return ``tokens`` with old log-probs by which every ratio is that of its whole reply."""
    logprobs = scores.logprobs.detach()
    return replace(tokens, old_logprobs=logprobs - log_ratio.to(logprobs))

"""The tiny model's supervised warm start: from initial weights to a policy that can be sharpened.

Matrices inside the layers are stepped by Muon (Jordan et al. 2024, "Muon: An optimizer for hidden
layers in neural networks"), with which this model learns to solve problems from about half the
tokens that AdamW needs; embeddings and norms are stepped by AdamW. The learning rate rises and
then falls linearly to 0 over the steps that are planned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from astuner_rl.errors import NonFiniteLossError
from astuner_rl.learning.layout import padded_rows
from astuner_rl.learning.scoring import read_logits
from astuner_rl.learning.supervised import SupervisedExample, length_grouped_batches
from astuner_rl.learning.tiny.solve_rate import solve_rate
from astuner_rl.learning.tiny.targets import read_targets

ADAMW_LR = 4e-3
MUON_LR = 0.03
WEIGHT_DECAY = 0.1
MAX_GRAD_NORM = 1.0
RISE = 0.05
"""Share of the steps over which the learning rate rises."""
EVALUATIONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How far the warm start was after so many steps."""

    step: int
    seconds: float
    tokens: int
    """Fed so far, padding left out."""
    loss: float
    """Mean cross-entropy of the targets since the last evaluation, in nats."""
    greedy: float
    """Share of the held-out problems that greedy decoding solves; see ``solve_rate``."""
    sampled: float
    """The same at temperature 1."""


def warm_start(
    model: PreTrainedModel,
    train: Sequence[SupervisedExample],
    held_out: Sequence[SupervisedExample],
    *,
    passes: int,
    batch_tokens: int,
    limit_s: float,
    seed: int,
    say: Callable[[str], None],
) -> list[Evaluation]:
    """Train ``model`` in place and return what was measured on the way; the last is the end.

    Args:
        model: Trained with dropout switched off.
        train: To imitate, errors included.
        held_out: Without errors.
        passes: How often each example is seen.
        batch_tokens: Tokens, padding included, of one step.
        limit_s: Wall-clock limit. Where the pace so far would break it, fewer steps are planned
            from then on, so that the learning rate still falls to 0.
        seed: Of the order of examples.
        say: Takes a line at every evaluation.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite.
    """
    model.train(False)
    # On a CPU, with rows this short, plain matrix products take half the time of fused attention.
    model.set_attn_implementation("eager")
    batches = _batches(train, passes=passes, batch_tokens=batch_tokens, seed=seed)
    optimizers = _Optimizers(model)
    planned = len(batches)
    evaluations: list[Evaluation] = []
    losses: list[float] = []
    tokens = 0
    start = time.monotonic()
    for step, batch in enumerate(batches, start=1):
        optimizers.set_rate(_rate(step / planned))
        losses.append(_backward(model, [train[index] for index in batch], step=step))
        optimizers.step()
        tokens += sum(len(train[index].token_ids) for index in batch)

        if step % max(1, len(batches) // EVALUATIONS) and step < planned:
            continue
        rate = solve_rate(model, held_out)
        seconds = time.monotonic() - start
        planned = min(planned, max(step, int(step * limit_s / seconds)))
        evaluation = Evaluation(
            step=step,
            seconds=round(seconds, 1),
            tokens=tokens,
            loss=sum(losses) / len(losses),
            greedy=rate.greedy,
            sampled=rate.sampled,
        )
        evaluations.append(evaluation)
        say(
            f"step {step}/{planned}: {seconds:.0f} s, {tokens / seconds:.0f} tokens/s, loss "
            f"{evaluation.loss:.3f}, held-out solved {rate.greedy:.1%} greedy, "
            f"{rate.sampled:.1%} at T = 1"
        )
        losses.clear()
        if step >= planned:
            break
    return evaluations


def _batches(
    train: Sequence[SupervisedExample], *, passes: int, batch_tokens: int, seed: int
) -> list[list[int]]:
    lengths = [len(example.token_ids) for example in train]
    return [
        batch
        for epoch in range(passes)
        for batch in length_grouped_batches(
            lengths, batch_tokens=batch_tokens, seed=seed, epoch=epoch
        )
    ]


def _rate(progress: float) -> float:
    """Return the learning rate as a share of its peak, for ``progress`` from 0 to 1."""
    return min(progress / RISE, (1 - progress) / (1 - RISE))


def _backward(model: PreTrainedModel, examples: Sequence[SupervisedExample], *, step: int) -> float:
    """Accumulate the gradient of the examples' mean cross-entropy, and return that."""
    targets = read_targets(examples)
    total = 0.0
    for microbatch in padded_rows(targets.rows, microbatch_tokens=8192):
        with torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16()):
            logits = read_logits(model, microbatch)
        loss = nn.functional.cross_entropy(
            logits, targets.token_ids[microbatch.slots], reduction="sum"
        ) / len(targets.token_ids)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    if not math.isfinite(total):
        raise NonFiniteLossError(
            f"the warm start's loss must be finite, got {total} at step {step}; "
            "try another model.seed"
        )
    return total


def _has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices faster than float32 ones."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


class _Optimizers:
    """Muon for the matrices inside the layers, AdamW for all else, on one schedule."""

    def __init__(self, model: PreTrainedModel) -> None:
        embedding = model.get_input_embeddings().weight
        self._parameters = [*model.parameters()]
        matrices = [p for p in self._parameters if p.ndim == 2 and p is not embedding]
        vectors = [p for p in self._parameters if p.ndim == 1]
        self._optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=WEIGHT_DECAY), MUON_LR),
            (
                torch.optim.AdamW(
                    [
                        {"params": [embedding], "weight_decay": WEIGHT_DECAY},
                        {"params": vectors, "weight_decay": 0.0},
                    ],
                    lr=ADAMW_LR,
                    betas=(0.9, 0.98),
                    fused=True,
                ),
                ADAMW_LR,
            ),
        ]

    def set_rate(self, share: float) -> None:
        """Set every learning rate to this share of its peak."""
        for optimizer, peak in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * peak

    def step(self) -> None:
        """Step along the accumulated gradients, then clear them."""
        nn.utils.clip_grad_norm_(self._parameters, MAX_GRAD_NORM)
        for optimizer, _ in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()

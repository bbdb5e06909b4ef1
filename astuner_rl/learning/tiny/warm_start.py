"""The tiny model's supervised warm start: from initial weights to a policy that can be sharpened.

Matrices inside the layers are stepped by Muon (Jordan et al. 2024, "Muon: An optimizer for hidden
layers in neural networks"), with which this model learns to solve problems from about half the
tokens that AdamW needs; embeddings and norms are stepped by AdamW. The learning rate rises and
then falls linearly over the steps that are planned; at its lowest, training goes on until held-out
accuracy is flat over three evaluations, at most as long again as planned. The clock decides
nothing: the seed names the model.

Every batch is cut in two halves whose gradients are computed by two threads and then added: the
model is too small for one operation to keep two cores busy. The halves do not depend on the
machine, so the result does not either.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from astuner_rl.errors import NonFiniteLossError
from astuner_rl.learning.layout import padded_rows
from astuner_rl.learning.scoring import read_logits
from astuner_rl.learning.supervised import SupervisedExample, length_grouped_batches
from astuner_rl.learning.tiny.solve_rate import SolveRate, solve_rate
from astuner_rl.learning.tiny.targets import read_targets
from astuner_rl.one_thread import one_intra_op_thread

ADAMW_LR = 4e-3
MUON_LR = 0.03
WEIGHT_DECAY = 0.1
MAX_GRAD_NORM = 1.0
RISE = 0.05
"""Share of the steps over which the learning rate rises."""
FLOOR = 0.03
"""Share of its peak below which the learning rate never falls."""
EVALUATIONS = 20
"""In the planned steps, and as far apart after them."""
MOST = 2
"""Times the planned steps after which training ends although held-out accuracy still rises."""
FLAT = 0.02
"""By how much held-out accuracy may rise where it is called flat: about its standard error."""
HALVES = 2
"""Parts of a batch, each with a thread. Results depend on it, so it does not follow the cores."""


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
    seed: int,
    say: Callable[[str], None],
) -> list[Evaluation]:
    """Train ``model`` in place and return what was measured on the way; the last is the end.

    Args:
        model: Trained with dropout switched off.
        train: To imitate, errors included.
        held_out: Without errors.
        passes: How often each example is seen while the learning rate falls.
        batch_tokens: Tokens, padding included, of one step.
        seed: Of the order of examples.
        say: Takes a line at every evaluation.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite.
    """
    model.train(False)
    # On a CPU, with rows this short, plain matrix products take half the time of fused attention.
    model.set_attn_implementation("eager")
    batches = _batches(train, batch_tokens=batch_tokens, seed=seed)
    optimizers = _Optimizers(model)
    planned = passes * len(_epoch(train, batch_tokens=batch_tokens, seed=seed, epoch=0))
    interval = max(1, planned // EVALUATIONS)
    evaluations: list[Evaluation] = []
    losses: list[float] = []
    tokens = 0
    start = time.monotonic()
    with one_intra_op_thread(), ThreadPoolExecutor(HALVES) as threads:
        halves = _Halves(model, threads)
        for step, batch in enumerate(batches, start=1):
            optimizers.set_rate(_rate(step / planned))
            losses.append(halves.accumulate([train[index] for index in batch]))
            if not math.isfinite(losses[-1]):
                raise NonFiniteLossError(
                    f"the warm start's loss must be finite, got {losses[-1]} at step {step}; "
                    "try another model.seed"
                )
            optimizers.step()
            tokens += sum(len(train[index].token_ids) for index in batch)
            if step % interval and step != planned:
                continue

            rate = halves.solve_rate(held_out)
            seconds = time.monotonic() - start
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
            if step >= planned and (is_flat(evaluations) or step >= MOST * planned):
                break
    return evaluations


def is_flat(evaluations: Sequence[Evaluation]) -> bool:
    """Return whether held-out accuracy rose by at most ``FLAT`` over the last three evaluations.

    They are compared with the best before them. Example: after 0.70, 0.81, the accuracies 0.80,
    0.82, 0.79 are flat; 0.80, 0.84, 0.79 are not.
    """
    accuracies = [evaluation.greedy for evaluation in evaluations]
    return len(accuracies) > 3 and max(accuracies[-3:]) <= max(accuracies[:-3]) + FLAT


def _batches(
    train: Sequence[SupervisedExample], *, batch_tokens: int, seed: int
) -> Iterator[list[int]]:
    """Yield batches without end, in another order in every pass."""
    for epoch in count():
        yield from _epoch(train, batch_tokens=batch_tokens, seed=seed, epoch=epoch)


def _epoch(
    train: Sequence[SupervisedExample], *, batch_tokens: int, seed: int, epoch: int
) -> list[list[int]]:
    lengths = [len(example.token_ids) for example in train]
    return length_grouped_batches(lengths, batch_tokens=batch_tokens, seed=seed, epoch=epoch)


def _rate(progress: float) -> float:
    """Return the learning rate as a share of its peak; ``progress`` is 1 where the plan ends."""
    return max(FLOOR, min(progress / RISE, (1 - progress) / (1 - RISE)))


class _Halves:
    """Computes with a model, each half of some examples in a thread of its own."""

    def __init__(self, model: PreTrainedModel, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._parameters = [*model.parameters()]
        # Reading logits hooks into a model for the time of a pass, so each thread has a model of
        # its own around the same parameters.
        shared = {id(parameter): parameter for parameter in self._parameters}
        self._models = [model, *(copy.deepcopy(model, shared) for _ in range(HALVES - 1))]

    def accumulate(self, examples: Sequence[SupervisedExample]) -> float:
        """Set the gradient of the examples' mean cross-entropy, and return that."""
        halves = [examples[half::HALVES] for half in range(min(HALVES, len(examples)))]
        targets = sum(sum(example.mask) for example in examples)

        def gradient(model: PreTrainedModel, half: Sequence[SupervisedExample]) -> _Gradient:
            return _gradient(model, self._parameters, half, targets=targets)

        total = 0.0
        for loss, gradients in self._threads.map(gradient, self._models, halves):
            total += loss
            for parameter, gradient_of_half in zip(self._parameters, gradients, strict=True):
                if parameter.grad is None:
                    parameter.grad = gradient_of_half
                else:
                    parameter.grad += gradient_of_half
        return total

    def solve_rate(self, examples: Sequence[SupervisedExample]) -> SolveRate:
        """Return how often the model follows the examples to the end."""
        halves = [examples[half::HALVES] for half in range(min(HALVES, len(examples)))]
        rates = [*zip(halves, self._threads.map(solve_rate, self._models, halves), strict=True)]
        return SolveRate(
            greedy=sum(len(half) * rate.greedy for half, rate in rates) / len(examples),
            sampled=sum(len(half) * rate.sampled for half, rate in rates) / len(examples),
        )


_Gradient = tuple[float, list[Tensor]]


def _gradient(
    model: PreTrainedModel,
    parameters: Sequence[nn.Parameter],
    examples: Sequence[SupervisedExample],
    *,
    targets: int,
) -> _Gradient:
    """Return the examples' cross-entropy, divided by ``targets``, and its gradients."""
    read = read_targets(examples)
    total = 0.0
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for microbatch in padded_rows(read.rows, microbatch_tokens=8192):
        with torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16()):
            logits = read_logits(model, microbatch)
        loss = (
            nn.functional.cross_entropy(logits, read.token_ids[microbatch.slots], reduction="sum")
            / targets
        )
        gradients = torch.autograd.grad(loss, parameters)
        sums = [accumulated + new for accumulated, new in zip(sums, gradients, strict=True)]
        total += loss.item()
    return total, sums


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

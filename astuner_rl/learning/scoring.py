"""What a policy says about sampled tokens: log-probs and entropies, read from its hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from astuner_rl.algos.entropy import categorical_entropy
from astuner_rl.learning.batch import TokenBatch
from astuner_rl.learning.layout import Layout, Microbatch, Row
from astuner_rl.learning.tree_run import TreeRun, run_pass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScores:
    """What a policy says about the readings of one micro-batch."""

    logprobs: Tensor
    """[R] log-prob of the token that followed, temperature included."""
    entropies: Tensor
    """[R] entropy of the distribution it was drawn from, in nats."""


def read_logits(
    model: PreTrainedModel, microbatch: Microbatch, *, run: TreeRun | None = None
) -> Tensor:
    """Return the logits at the states that ``microbatch`` reads, at least float32.

    The output head is given those states alone: with a large vocabulary the logits of every
    context token would cost more than the rest of the pass. What a model does to its logits
    after the head (scaling, soft-capping) still happens, as it is the model that runs.

    Args:
        model: On the device of the micro-batch.
        microbatch: The pass.
        run: Of all passes of the layout; None for a pass alone.

    Returns:
        [R, V].
    """
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if head is None:
        raise TypeError(f"a policy needs an output head, {type(model).__name__} has none")
    with _reading_only(head, microbatch.reads):
        output = run_pass(model, microbatch, run)
    logits: Tensor = output.logits[0]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@contextmanager
def _reading_only(head: nn.Module, reads: Tensor) -> Iterator[None]:
    """Let ``head`` see ``[1, R, H]``, the states at ``reads``, in place of ``[B, T, H]``."""

    def select(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].flatten(0, 1).index_select(0, reads).unsqueeze(0),)

    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def score(
    model: PreTrainedModel,
    microbatch: Microbatch,
    batch: TokenBatch,
    *,
    run: TreeRun | None = None,
    entropy_gradient: bool = False,
) -> TokenScores:
    """Return log-probs, with gradient, and entropies of the micro-batch's tokens.

    ``log softmax(logits / temperature)`` with each token's own temperature, as the sampler did.

    Args:
        model: On any device; the micro-batch is taken there.
        microbatch: Its slots are token indices of ``batch``.
        batch: Gives the tokens and their temperatures.
        run: Of all passes of the layout; None for a pass alone.
        entropy_gradient: Whether the entropies have a gradient too; without it nothing of size
            ``[R, V]`` is kept for them.
    """
    logits = read_logits(model, microbatch.to(model.device), run=run)
    token_ids = batch.token_ids[microbatch.slots].to(logits.device)
    temperatures = batch.temperatures[microbatch.slots].to(logits)
    # Under another name the logits would take their memory until the log-probs are known.
    logits = logits / temperatures.unsqueeze(-1)
    log_distribution = logits.log_softmax(-1)
    logprobs = log_distribution.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)
    with torch.set_grad_enabled(entropy_gradient):
        entropies = categorical_entropy(log_distribution)
    return TokenScores(logprobs=logprobs, entropies=entropies)


@torch.no_grad()
def token_logprobs(
    model: PreTrainedModel,
    batch: TokenBatch,
    rows: Sequence[Row],
    *,
    layout: Layout,
    microbatch_tokens: int,
) -> Tensor:
    """Return the log-prob of every token that ``rows`` read, without gradient.

    Returns:
        [N] on the CPU; NaN for tokens that no row reads.
    """
    logprobs = torch.full((batch.token_ids.numel(),), torch.nan, dtype=torch.float64)
    run = TreeRun()
    for microbatch in layout(rows, microbatch_tokens=microbatch_tokens):
        scores = score(model, microbatch, batch, run=run)
        logprobs[microbatch.slots] = scores.logprobs.to(logprobs)
    return logprobs

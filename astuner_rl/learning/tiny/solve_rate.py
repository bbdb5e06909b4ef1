"""How often a policy would solve problems, read off error-free demonstrations without sampling.

A tool's answer is determined by the call, so an episode that follows the demonstration token for
token solves the problem. Feeding the demonstration (teacher forcing) gives, for every problem,

- whether greedy decoding follows it: each of its tokens is the most likely one;
- the probability that sampling at temperature 1 follows it: the product of its tokens'.

Both are lower bounds, since other ways may lead to the same answer (``2*3`` for ``3*2``), and cost
one forward pass. Example: two sampled tokens of probability 0.9 and 0.5, where the second has a
rival of 0.4, give greedy 1 and sampled 0.45.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from astuner_rl.learning.layout import padded_rows
from astuner_rl.learning.scoring import read_logits
from astuner_rl.learning.supervised import SupervisedExample
from astuner_rl.learning.tiny.targets import read_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveRate:
    """Lower bounds of the share of problems that are solved."""

    greedy: float
    """At temperature 0."""
    sampled: float
    """At temperature 1."""


@torch.no_grad()
def solve_rate(
    model: PreTrainedModel,
    examples: Sequence[SupervisedExample],
    *,
    microbatch_tokens: int = 8192,
) -> SolveRate:
    """Return how often ``model`` follows the examples' targets to the end.

    Args:
        model: With dropout switched off.
        examples: At least one, each a whole error-free demonstration with at least one target.
        microbatch_tokens: Tokens, padding included, of one forward pass.
    """
    targets = read_targets(examples)
    misses = torch.zeros(len(examples))
    logprobs = torch.zeros(len(examples))
    for microbatch in padded_rows(targets.rows, microbatch_tokens=microbatch_tokens):
        logits = read_logits(model, microbatch.to(model.device)).cpu()
        owners = targets.examples[microbatch.slots]
        token_ids = targets.token_ids[microbatch.slots]
        chosen = logits.log_softmax(-1).gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)
        logprobs.index_add_(0, owners, chosen)
        misses.index_add_(0, owners, (logits.argmax(-1) != token_ids).float())
    return SolveRate(
        greedy=(misses == 0).float().mean().item(), sampled=logprobs.exp().mean().item()
    )

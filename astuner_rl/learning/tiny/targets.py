"""Many examples as rows to feed and target tokens to predict, each with the example it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from astuner_rl.learning.layout import Row
from astuner_rl.learning.supervised import SupervisedExample


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a forward pass over examples is compared with."""

    rows: list[Row]
    """One for each example; slot ``n`` reads the state that predicts ``token_ids[n]``."""
    token_ids: Tensor
    """[N] int64."""
    examples: Tensor
    """[N] int64, position of each target's example."""


def read_targets(examples: Sequence[SupervisedExample]) -> Targets:
    """Return rows and targets; every example must have a target, and its first token is none."""
    rows: list[Row] = []
    token_ids: list[int] = []
    owners: list[int] = []
    for index, example in enumerate(examples):
        positions = [position for position, chosen in enumerate(example.mask) if chosen]
        slots = tuple(range(len(token_ids), len(token_ids) + len(positions)))
        reads = tuple(position - 1 for position in positions)
        rows.append(Row(token_ids=example.token_ids, reads=reads, slots=slots))
        token_ids += [example.token_ids[position] for position in positions]
        owners += [index] * len(positions)
    return Targets(rows=rows, token_ids=torch.tensor(token_ids), examples=torch.tensor(owners))

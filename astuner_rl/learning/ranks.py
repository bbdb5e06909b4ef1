"""The seam between a learner and the processes that it may be spread over.

Every rank is given the whole batch and runs the passes of its share of the rows. Losses are sums
over tokens with weights of the whole batch, so gradients and figures of the ranks add up to those
of one process, which is the rank beside which there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from astuner_rl.learning.layout import Row
from astuner_rl.learning.master_weights import MasterWeights
from astuner_rl.learning.module_weights import ModuleWeights, WholeWeights


class Ranks(Protocol):
    """One rank's view of the processes that train together; all call the same methods in turn."""

    def keep(
        self, module: nn.Module, *, probe: Callable[[], Tensor], dtype: torch.dtype | None
    ) -> ModuleWeights:
        """Take charge of a module's weights.

        Args:
            module: Equal on all ranks.
            probe: Runs the shortest pass through it, and returns what has a gradient of it, [].
            dtype: What it is to compute in, while it learns in the type that it has; None for that.
        """
        ...

    def share(self, rows: Sequence[Row], *, merges: bool) -> list[Row]:
        """Return the rows whose passes this rank runs; see ``shares.balanced_shares``."""
        ...

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of all ranks' ``values``, which have one shape and type."""
        ...

    def combined(self, readings: Tensor) -> Tensor:
        """Return what all ranks have read, given what this one has: NaN where it read nothing."""
        ...

    def largest(self, value: float) -> float:
        """Return the largest of all ranks' values."""
        ...

    def gather(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a nested state with whole tensors on the CPU to the first rank, {} to others."""
        ...


class OneProcess:
    """The only rank."""

    def keep(
        self, module: nn.Module, *, probe: Callable[[], Tensor], dtype: torch.dtype | None
    ) -> ModuleWeights:
        """Leave the weights where they are, with masters beside those that are rounded."""
        return WholeWeights(module) if dtype is None else MasterWeights(module, dtype)

    def share(self, rows: Sequence[Row], *, merges: bool) -> list[Row]:
        """Return all rows."""
        return list(rows)

    def total(self, values: Tensor) -> Tensor:
        """Return ``values``."""
        return values

    def combined(self, readings: Tensor) -> Tensor:
        """Return ``readings``."""
        return readings

    def largest(self, value: float) -> float:
        """Return ``value``."""
        return value

    def gather(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return ``state``, whose tensors are whole, wherever they are."""
        return state

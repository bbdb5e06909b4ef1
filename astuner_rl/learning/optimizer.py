"""The optimizer step: AdamW, learning-rate schedule, clipping, and a guard against NaN."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from astuner_rl.errors import NonFiniteLossError


class Schedule(Protocol):
    """The learning rate over a run, as a factor."""

    def __call__(self, step: int) -> float:
        """Return the factor of the optimizer step ``step``, counted from 0."""
        ...


class WarmupConstant:
    """Rises linearly to 1 over ``warmup_steps`` and stays there."""

    def __init__(self, warmup_steps: int) -> None:
        self._warmup_steps = warmup_steps

    def __call__(self, step: int) -> float:
        return min(1.0, (step + 1) / max(1, self._warmup_steps))


class StatefulPart(Protocol):
    """A part of a learner whose state is saved and restored as a whole."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class GuardedAdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) that never steps on NaN or infinity."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        schedule: Schedule,
        weight_decay: float,
        max_grad_norm: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._lr = lr
        self._schedule = schedule
        self._max_grad_norm = max_grad_norm
        self._steps = 0
        self._adamw = torch.optim.AdamW(
            self._parameters, lr=lr, betas=betas, weight_decay=weight_decay
        )

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return self._lr * self._schedule(self._steps)

    def step(self, *, loss: float) -> float:
        """Step along the accumulated gradients, then clear them.

        Args:
            loss: The loss whose gradients they are.

        Returns:
            The 2-norm of the gradient before it was clipped.

        Raises:
            NonFiniteLossError: Loss or gradient is NaN or infinite; nothing was changed but the
                gradients, which are cleared.
        """
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._adamw.zero_grad()
            raise NonFiniteLossError(
                f"loss and gradient norm must be finite, got loss {loss} and norm {norm} at "
                f"optimizer step {self._steps}; the weights were left as they were: lower the "
                "learning rate, or look for a NaN among rewards and log-probs of this step"
            )
        for group in self._adamw.param_groups:
            group["lr"] = self.lr
        self._adamw.step()
        self._adamw.zero_grad()
        self._steps += 1
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Return moments and step count; the tensors are those in use, not copies."""
        return {"adamw": self._adamw.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self._adamw.load_state_dict(state["adamw"])
        self._steps = state["steps"]


@contextmanager
def all_or_nothing(*parts: StatefulPart) -> Iterator[None]:
    """Restore ``parts`` if a step inside raises NonFiniteLossError after others were taken.

    Costs a copy of every part's state for the time of the update.
    """
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    try:
        yield
    except NonFiniteLossError:
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        raise

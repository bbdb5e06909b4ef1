"""The optimizer step: AdamW, learning-rate schedule, clipping, and a guard against NaN."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from astuner_rl.algos.config import Decay, SurrogateConfig
from astuner_rl.errors import NonFiniteLossError
from astuner_rl.learning.sharded_tensors import sharded_like, whole


class Schedule(Protocol):
    """The learning rate over a run, as a factor."""

    def __call__(self, step: int) -> float:
        """Return the factor of the optimizer step ``step``, counted from 0."""
        ...


class WarmupDecay:
    """Rises linearly to 1 over ``warmup_steps``, then falls to 0 at ``total_steps``.

    Args:
        warmup_steps: Optimizer steps; 0 begins at 1.
        total_steps: Optimizer steps of the whole run.
        decay: How it falls.
    """

    def __init__(self, *, warmup_steps: int, total_steps: int, decay: Decay) -> None:
        self._warmup_steps = warmup_steps
        self._total_steps = total_steps
        self._decay = decay

    def __call__(self, step: int) -> float:
        """Return the factor of the optimizer step ``step``, counted from 0."""
        if step < self._warmup_steps:
            return (step + 1) / self._warmup_steps
        span = max(1, self._total_steps - self._warmup_steps)
        progress = min(1.0, (step - self._warmup_steps) / span)
        match self._decay:
            case Decay.LINEAR:
                return 1.0 - progress
            case Decay.COSINE:
                return (1.0 + math.cos(math.pi * progress)) / 2
            case Decay.CONSTANT:
                return 1.0


def schedule_of(config: SurrogateConfig, *, updates: int | None) -> Schedule:
    """Return the schedule of an algorithm's learning rates.

    Args:
        config: Its settings.
        updates: Updates of the whole run; only a learning rate that never falls can do without.

    Raises:
        ValueError: The learning rate falls and ``updates`` is None.
    """
    decay = Decay(config.decay)
    if updates is None and decay is not Decay.CONSTANT:
        raise ValueError(
            f"decay={decay} must know the length of the run, got updates=None; pass updates, or "
            "set decay=constant"
        )
    return WarmupDecay(
        warmup_steps=config.warmup_steps,
        total_steps=(updates or 0) * config.epochs * config.minibatches,
        decay=decay,
    )


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
        gradients = [each.grad for each in self._parameters if each.grad is not None]
        total = whole(nn.utils.get_total_norm(gradients))
        nn.utils.clip_grads_with_norm_(self._parameters, self._max_grad_norm, total)
        norm = total.item()
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
        """Take over what ``state_dict`` returned, or the whole tensors of it."""
        moments = {
            index: {
                name: sharded_like(value, self._parameters[index]) if value.ndim else value
                for name, value in of_one.items()
            }
            for index, of_one in state["adamw"]["state"].items()
        }
        self._adamw.load_state_dict({**state["adamw"], "state": moments})
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

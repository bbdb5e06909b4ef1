"""The guarded optimizer step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from astuner_rl.algos.config import Decay, PpoConfig
from astuner_rl.errors import NonFiniteLossError
from astuner_rl.learning.optimizer import GuardedAdamW, WarmupDecay, all_or_nothing, schedule_of


def one_parameter() -> tuple[nn.Parameter, GuardedAdamW]:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = GuardedAdamW(
        [parameter],
        lr=0.1,
        schedule=WarmupDecay(warmup_steps=2, total_steps=0, decay=Decay.CONSTANT),
        weight_decay=0.0,
        max_grad_norm=1.0,
    )
    return parameter, optimizer


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]),
    ],
)
def test_learning_rate_warms_up_and_decays(decay, expected):
    schedule = WarmupDecay(warmup_steps=2, total_steps=6, decay=Decay(decay))
    assert [schedule(step) for step in range(6)] == pytest.approx(expected)
    assert schedule(60) == pytest.approx(1.0 if decay == "constant" else 0.0)


def test_without_warm_up_the_learning_rate_begins_at_its_peak():
    assert WarmupDecay(warmup_steps=0, total_steps=4, decay=Decay.LINEAR)(0) == 1.0


def test_an_algorithms_learning_rate_falls_over_all_its_optimizer_steps():
    config = PpoConfig(decay="linear", epochs=2, minibatches=3)
    schedule = schedule_of(config, updates=4)
    assert [schedule(step) for step in (0, 12, 24)] == [1.0, 0.5, 0.0]
    with pytest.raises(ValueError, match="must know the length of the run"):
        schedule_of(config, updates=None)
    assert schedule_of(PpoConfig(), updates=None)(100) == 1.0


def test_step_agrees_with_torch_after_clipping():
    parameter, optimizer = one_parameter()
    oracle = nn.Parameter(torch.tensor([1.0, 2.0]))
    adamw = torch.optim.AdamW([oracle], lr=0.1, weight_decay=0.0)
    for lr, gradient, clipped in [
        (0.05, [30.0, 40.0], [0.6, 0.8]),
        (0.1, [0.3, 0.0], [0.3, 0.0]),
    ]:
        parameter.grad = torch.tensor(gradient)
        assert optimizer.lr == pytest.approx(lr)
        assert optimizer.step(loss=0.0) == pytest.approx(math.hypot(*gradient))
        assert parameter.grad is None
        adamw.param_groups[0]["lr"] = lr
        oracle.grad = torch.tensor(clipped)
        adamw.step()
    assert torch.allclose(parameter, oracle, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "gradient"), [(math.nan, 1.0), (math.inf, 1.0), (0.0, math.nan), (0.0, math.inf)]
)
def test_a_loss_or_gradient_that_is_not_finite_changes_nothing(loss: float, gradient: float):
    parameter, optimizer = one_parameter()
    parameter.grad = torch.tensor([gradient, 0.0])
    with pytest.raises(NonFiniteLossError, match="must be finite"):
        optimizer.step(loss=loss)
    assert parameter.tolist() == [1.0, 2.0]
    assert parameter.grad is None
    assert optimizer.state_dict()["steps"] == 0
    assert optimizer.state_dict()["adamw"]["state"] == {}


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_parts_are_restored_only_when_a_step_failed():
    counter = Counter()
    with all_or_nothing(counter):
        counter.count = 1
    assert counter.count == 1
    with pytest.raises(NonFiniteLossError), all_or_nothing(counter):
        counter.count = 2
        raise NonFiniteLossError("not finite")
    assert counter.count == 1

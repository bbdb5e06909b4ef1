"""Learning in 32 bits what is computed in 16."""

from __future__ import annotations

import copy

import pytest
import torch

from astuner_rl.algos.config import GrpoConfig, PpoConfig
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.learning.master_weights import MasterWeights
from astuner_rl.learning.ppo import PpoLearner
from astuner_rl.learning.supervised import SupervisedConfig, SupervisedExample, SupervisedLearner


def test_steps_that_16_bits_cannot_hold_add_up():
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    weights = MasterWeights(layer, torch.bfloat16)
    (master,) = weights.parameters
    for _ in range(16):
        with torch.no_grad():
            master.add_(2**-10)  # below half of the distance to the next number of bfloat16
        weights.moved()
    assert master.item() == 1 + 2**-6
    assert layer.weight.item() == 1 + 2**-6
    assert layer.weight.dtype == torch.bfloat16


def test_gradients_of_passes_add_up_in_32_bits():
    layer = torch.nn.Linear(1, 1, bias=False)
    weights = MasterWeights(layer, torch.bfloat16)
    for size in (1.0, 2**-10, 2**-10):
        layer(torch.tensor([[size]], dtype=torch.bfloat16)).sum().backward()
    (master,) = weights.parameters
    assert master.grad is not None
    assert master.grad.item() == 1 + 2**-9
    assert layer.weight.grad is None


@pytest.mark.parametrize(
    ("learner", "config"), [(GrpoLearner, GrpoConfig), (PpoLearner, PpoConfig)]
)
def test_a_learner_computes_with_the_rounded_masters_and_resumes_from_them(
    learner, config, make_policy, episode_builder
):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0, 1.0])

    def make():
        return learner(
            copy.deepcopy(policy), config(lr=1e-4, kl_coefficient=0.1), dtype=torch.bfloat16
        )

    first, second = make(), make()
    report = first.update(episodes)
    assert report.metrics["policy/logprob_gap_max"] < 0.2
    state = copy.deepcopy(first.state_dict())
    for name, weight in first.weights().items():
        master = state["policy"]["model"][name]
        assert (weight.dtype, master.dtype) == (torch.bfloat16, torch.float32)
        assert torch.equal(weight, master.bfloat16())
    assert any(
        not torch.equal(state["policy"]["model"][name], weight)
        for name, weight in policy.state_dict().items()
    )
    second.load_state_dict(state)
    first.update(episodes)
    second.update(episodes)
    for name, master in first.state_dict()["policy"]["model"].items():
        assert torch.equal(master, second.state_dict()["policy"]["model"][name])


def test_a_learner_in_float32_and_one_in_bfloat16_go_the_same_way(make_policy):
    examples = [SupervisedExample(token_ids=(1, 2, 3, 4), mask=(False, True, True, True))]
    losses = {}
    for dtype in (None, torch.bfloat16):
        one = SupervisedLearner(
            make_policy(),
            SupervisedConfig(lr=0.01, warmup_steps=0, gradient_checkpointing=dtype is not None),
            total_steps=20,
            dtype=dtype,
        )
        for _ in range(20):
            one.step(examples)
        losses[dtype] = one.evaluate(examples)
    assert losses[None] < 0.5
    assert losses[torch.bfloat16] == pytest.approx(losses[None], abs=0.05)

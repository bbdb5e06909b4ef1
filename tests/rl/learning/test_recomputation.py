"""Gradient checkpointing: layers are computed twice, for the same gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import PreTrainedModel

from astuner_gym.errors import SettingError
from astuner_rl.algos.config import GrpoConfig, PpoConfig
from astuner_rl.learning.forest_layout import forest_passes
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.learning.layout import Layout, Row, padded_rows
from astuner_rl.learning.ppo import PpoLearner
from astuner_rl.learning.scoring import read_logits
from astuner_rl.learning.tree_run import TreeRun

ROWS = [
    Row(token_ids=(1, 2, 3, end, 5, 6), reads=(2, 3, 4), slots=(3 * end, 3 * end + 1, 3 * end + 2))
    for end in (7, 8, 9)
]


def gradients(
    model: PreTrainedModel, layout: Layout, *, budget: int, recompute: bool
) -> tuple[int, list[torch.Tensor]]:
    """Return how often the first layer was computed, and the gradients."""
    model = copy.deepcopy(model)
    computed = 0

    def count(*_: object) -> None:
        nonlocal computed
        computed += 1

    model.model.layers[0].mlp.register_forward_pre_hook(count)
    run = TreeRun(recompute=recompute)
    for microbatch in layout(ROWS, microbatch_tokens=budget):
        run.backward(read_logits(model, microbatch, run=run).log_softmax(-1)[:, 3].sum())
    run.finish()
    return computed, [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("layout", "budget"), [(forest_passes, 99), (forest_passes, 5), (padded_rows, 6)]
)
def test_gradients_are_the_same_bit_for_bit(family: PreTrainedModel, layout: Layout, budget: int):
    once, expected = gradients(family, layout, budget=budget, recompute=False)
    twice, found = gradients(family, layout, budget=budget, recompute=True)
    assert twice == 2 * once
    for left, right in zip(expected, found, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("learner", "config"), [(GrpoLearner, GrpoConfig), (PpoLearner, PpoConfig)]
)
def test_an_update_ends_in_the_same_state(learner, config, make_policy, episode_builder):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0, 1.0])
    weights = []
    for recompute in (False, True):
        one = learner(copy.deepcopy(policy), config(lr=0.01, gradient_checkpointing=recompute))
        one.update(episodes)
        weights.append(one.weights())
        # What was put in place of the layers' methods is gone: a copy must be one of the model.
        assert "forward" not in vars(one._policy._trained.model.model.layers[0])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_model_that_names_no_layers_is_refused(make_policy, monkeypatch):
    policy = make_policy()
    monkeypatch.setattr(policy, "_no_split_modules", None)
    monkeypatch.setattr(policy.model, "_no_split_modules", None)
    with pytest.raises(SettingError, match="names its layers"):
        GrpoLearner(policy, GrpoConfig(gradient_checkpointing=True))

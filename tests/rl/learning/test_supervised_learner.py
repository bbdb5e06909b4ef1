"""Supervised fine-tuning on given tokens."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from astuner_gym.errors import SettingError
from astuner_rl.learning.supervised import (
    SupervisedConfig,
    SupervisedExample,
    SupervisedLearner,
    length_grouped_batches,
)

EXAMPLES = [
    SupervisedExample(token_ids=(1, 2, 3, 4, 5), mask=(False, False, True, False, True)),
    SupervisedExample(token_ids=(6, 7, 8), mask=(False, True, True)),
    SupervisedExample(token_ids=(9, 9), mask=(False, False)),
]


def test_loss_equals_the_model_s_own(exact_policy):
    learner = SupervisedLearner(
        copy.deepcopy(exact_policy), SupervisedConfig(lr=0.0), total_steps=1
    )
    report = learner.step(EXAMPLES)
    total = 0.0
    for example in EXAMPLES[:2]:
        labels = [t if m else -100 for t, m in zip(example.token_ids, example.mask, strict=True)]
        output = exact_policy(torch.tensor([example.token_ids]), labels=torch.tensor([labels]))
        total += output.loss.item() * sum(example.mask)
    # transformers takes its loss in float32.
    assert report.loss == pytest.approx(total / 4, abs=1e-6)
    assert (report.target_tokens, report.fed["tokens/forward"]) == (4, 4 + 2)
    assert learner.evaluate(EXAMPLES) == pytest.approx(report.loss, abs=1e-10)


def test_micro_batches_do_not_matter(exact_policy):
    learners = [
        SupervisedLearner(
            copy.deepcopy(exact_policy),
            SupervisedConfig(lr=1e-3, warmup_steps=0, microbatch_tokens=tokens),
            total_steps=10,
        )
        for tokens in (1, 100)
    ]
    first, second = (learner.step(EXAMPLES) for learner in learners)
    assert first.grad_norm == pytest.approx(second.grad_norm, abs=1e-10)
    for name, tensor in learners[0].weights().items():
        assert torch.allclose(tensor, learners[1].weights()[name], atol=1e-9), name


def test_examples_are_learned(make_policy):
    learner = SupervisedLearner(
        make_policy(), SupervisedConfig(lr=1e-2, warmup_steps=2), total_steps=40
    )
    losses = [learner.step(EXAMPLES).loss for _ in range(40)]
    assert losses[-1] < 0.05 < losses[0]


def test_a_resumed_learner_goes_on_bit_for_bit(make_policy, tmp_path):
    config = SupervisedConfig(lr=1e-2, warmup_steps=3)
    learner = SupervisedLearner(make_policy(), config, total_steps=9)
    learner.step(EXAMPLES)
    torch.save(learner.state_dict(), tmp_path / "state.pt")
    resumed = SupervisedLearner(make_policy(seed=5), config, total_steps=9)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert learner.step(EXAMPLES) == resumed.step(EXAMPLES)
    for name, tensor in learner.weights().items():
        assert torch.equal(tensor, resumed.weights()[name]), name


@given(
    lengths=st.lists(st.integers(1, 50), max_size=40),
    batch_tokens=st.integers(1, 120),
    window=st.integers(1, 20),
)
def test_every_example_is_in_one_batch_within_the_budget(lengths, batch_tokens, window):
    def plan(epoch: int) -> list[list[int]]:
        return length_grouped_batches(
            lengths, batch_tokens=batch_tokens, seed=3, epoch=epoch, window=window
        )

    batches = plan(0)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_tokens
    assert batches == plan(0)


def test_each_pass_has_an_order_of_its_own():
    first, second = (
        length_grouped_batches([5] * 50, batch_tokens=10, seed=0, epoch=epoch) for epoch in (0, 1)
    )
    assert first != second


def test_unusable_examples_are_refused(make_policy):
    learner = SupervisedLearner(make_policy(), SupervisedConfig(), total_steps=1)
    with pytest.raises(SettingError, match="at least one target token, got none in 1 examples"):
        learner.step(EXAMPLES[2:])
    with pytest.raises(ValueError, match="first token has no context"):
        learner.step([SupervisedExample(token_ids=(1, 2), mask=(True, True))])
    with pytest.raises(ValueError, match="equally long, got 1 and 2"):
        learner.step([SupervisedExample(token_ids=(1, 2), mask=(True,))])


@pytest.mark.parametrize(("setting", "value"), [("decay", "step"), ("batch_tokens", 0)])
def test_a_bad_setting_is_refused(setting, value):
    with pytest.raises(SettingError, match=rf"algo\.{setting}"):
        SupervisedConfig(**{setting: value})

"""The warm start: it learns, ends, and stops at a loss that is no number."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from astuner_rl.errors import NonFiniteLossError
from astuner_rl.learning.supervised import SupervisedExample
from astuner_rl.learning.tiny.warm_start import Evaluation, is_flat, warm_start


def model() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=12,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=True,
        eos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


SUCCESSORS = [
    SupervisedExample(token_ids=(10, token, token + 1), mask=(False, False, True))
    for token in range(9)
]


def run(policy: Qwen3ForCausalLM, *, passes: int) -> list[Evaluation]:
    return warm_start(
        policy,
        SUCCESSORS,
        SUCCESSORS,
        passes=passes,
        batch_tokens=27,
        seed=0,
        say=lambda line: None,
    )


def test_demonstrations_are_learnt_until_accuracy_is_flat() -> None:
    evaluations = run(model(), passes=150)
    assert evaluations[-1].step >= 150
    assert evaluations[-1].tokens == evaluations[-1].step * 27
    assert [evaluation.greedy for evaluation in evaluations[-3:]] == [1.0, 1.0, 1.0]
    assert evaluations[-1].sampled > 0.9
    assert evaluations[0].loss > evaluations[-1].loss


def test_training_goes_on_after_the_plan_while_accuracy_rises() -> None:
    evaluations = run(model(), passes=3)
    assert 3 < evaluations[-1].step < 6
    assert is_flat(evaluations)
    assert not any(is_flat(evaluations[:end]) for end in range(len(evaluations)))


@pytest.mark.parametrize(
    ("greedy", "flat"),
    [
        ([0.70, 0.81, 0.80, 0.82, 0.79], True),
        ([0.70, 0.81, 0.80, 0.84, 0.79], False),
        ([0.81, 0.80, 0.75, 0.70], True),
        ([0.80, 0.80, 0.80], False),
    ],
)
def test_accuracy_is_flat_when_three_evaluations_are_hardly_above_the_best_before(
    greedy: list[float], flat: bool
) -> None:
    evaluations = [
        Evaluation(step=0, seconds=0.0, tokens=0, loss=0.0, greedy=rate, sampled=0.0)
        for rate in greedy
    ]
    assert is_flat(evaluations) is flat


def test_the_same_seed_gives_the_same_weights_with_any_number_of_threads() -> None:
    first, second = model(), model()
    before = torch.get_num_threads()
    try:
        for policy, threads in ((first, 1), (second, 2)):
            torch.set_num_threads(threads)
            run(policy, passes=5)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])


def test_training_ends_after_twice_the_plan_even_if_accuracy_still_rises() -> None:
    evaluations = run(model(), passes=1)
    assert evaluations[-1].step == 2
    assert not is_flat(evaluations)


def test_a_slow_machine_builds_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, slow = model(), model()
    run(quick, passes=5)
    hours = count(step=3600.0)
    monkeypatch.setattr("time.monotonic", lambda: next(hours))
    assert run(slow, passes=5)[-1].seconds > 3600
    for name, weight in quick.state_dict().items():
        assert torch.equal(weight, slow.state_dict()[name])


def test_a_loss_that_is_no_number_ends_the_warm_start() -> None:
    policy = model()
    with torch.no_grad():
        policy.model.norm.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match="got nan at step 1"):
        run(policy, passes=1)

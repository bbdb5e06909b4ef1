"""The warm start: it learns, keeps to its limit, and stops at a loss that is no number."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from astuner_rl.errors import NonFiniteLossError
from astuner_rl.learning.supervised import SupervisedExample
from astuner_rl.learning.tiny.warm_start import Evaluation, warm_start


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


def run(policy: Qwen3ForCausalLM, *, passes: int, limit_s: float) -> list[Evaluation]:
    return warm_start(
        policy,
        SUCCESSORS,
        SUCCESSORS,
        passes=passes,
        batch_tokens=27,
        limit_s=limit_s,
        seed=0,
        say=lambda line: None,
    )


def test_demonstrations_are_learnt() -> None:
    evaluations = run(model(), passes=150, limit_s=600)
    assert evaluations[-1].step == 150
    assert evaluations[-1].tokens == 150 * 27
    assert evaluations[-1].greedy == 1.0
    assert evaluations[-1].sampled > 0.9
    assert evaluations[0].loss > evaluations[-1].loss


def test_a_limit_that_the_pace_would_break_shortens_the_plan() -> None:
    assert run(model(), passes=600, limit_s=0.0)[-1].step == 60


def test_a_loss_that_is_no_number_ends_the_warm_start() -> None:
    policy = model()
    with torch.no_grad():
        policy.model.norm.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match="got nan at step 1"):
        run(policy, passes=1, limit_s=600)

"""The solve rate against a token-by-token oracle."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from astuner_rl.learning.supervised import SupervisedExample
from astuner_rl.learning.tiny.solve_rate import solve_rate


@pytest.fixture
def model() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=5,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        eos_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()


@torch.no_grad()
def distribution(model: Qwen3ForCausalLM, context: tuple[int, ...]) -> list[float]:
    probabilities: list[float] = model(torch.tensor([context])).logits[0, -1].softmax(-1).tolist()
    return probabilities


def test_an_episode_is_solved_if_each_of_its_targets_is(model: Qwen3ForCausalLM) -> None:
    def likeliest(*context: int) -> int:
        probabilities = distribution(model, context)
        return probabilities.index(max(probabilities))

    right = likeliest(0, 1)
    last = likeliest(0, 1, right, 4)
    solved = (0, 1, right, 4, last)  # token 4 comes from a tool and is no target
    one_wrong = (0, 1, right, 4, (last + 1) % 5)
    mask = (False, False, True, False, True)
    examples = [SupervisedExample(token_ids=ids, mask=mask) for ids in (solved, one_wrong)]

    rate = solve_rate(model, examples)

    followed = [
        distribution(model, ids[:2])[ids[2]] * distribution(model, ids[:4])[ids[4]]
        for ids in (solved, one_wrong)
    ]
    assert rate.greedy == 0.5
    assert math.isclose(rate.sampled, sum(followed) / 2, rel_tol=1e-5)


def test_the_cut_into_passes_does_not_matter(model: Qwen3ForCausalLM) -> None:
    examples = [
        SupervisedExample(token_ids=(0, *range(length)), mask=(False,) * length + (True,))
        for length in (1, 4, 2)
    ]
    whole = solve_rate(model, examples)
    cut = solve_rate(model, examples, microbatch_tokens=4)
    assert cut.greedy == whole.greedy
    assert math.isclose(cut.sampled, whole.sampled, rel_tol=1e-5)

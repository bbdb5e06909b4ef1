"""Log-probs read from a model's states equal those of its full logits."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from astuner_rl.learning.batch import flatten
from astuner_rl.learning.layout import Row, padded_rows
from astuner_rl.learning.scoring import read_logits, score, token_logprobs

SMALL = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.5,
}


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SMALL))


def gemma_with_capped_logits() -> PreTrainedModel:
    return Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=0.5))


@pytest.mark.parametrize("make", [llama, gemma_with_capped_logits])
def test_logits_at_readings_equal_the_model_s_own(make):
    torch.manual_seed(0)
    model = make().eval()
    rows = [
        Row(token_ids=(1, 2, 3, 4, 5), reads=(1, 4), slots=(0, 1)),
        Row(token_ids=(6, 7), reads=(0, 1), slots=(2, 3)),
    ]
    (microbatch,) = padded_rows(rows, microbatch_tokens=100)
    logits = read_logits(model, microbatch)
    first = model(torch.tensor([[1, 2, 3, 4, 5]])).logits[0]
    second = model(torch.tensor([[6, 7]])).logits[0]
    expected = torch.stack([first[1], first[4], second[0], second[1]])
    assert torch.allclose(logits, expected, atol=1e-5)
    # The head is whole again afterwards.
    assert model(torch.tensor([[6, 7]])).logits.shape == (1, 2, 24)


def test_logprobs_divide_by_each_call_s_own_temperature(
    make_policy, episode_builder, scripted_call
):
    policy = make_policy()
    calls = [scripted_call(3, 4, temperature=0.7), scripted_call(2, 3, temperature=1.3)]
    batch = flatten([episode_builder(policy).build(calls)])
    (microbatch,) = padded_rows(batch.rows[0], microbatch_tokens=100)
    scores = score(policy, microbatch, batch)
    # What the builder recorded was taken from full logits, call by call.
    assert torch.allclose(scores.logprobs.double(), batch.old_logprobs, atol=1e-4)
    assert not torch.allclose(
        score_at_one(policy, microbatch, batch), batch.old_logprobs, atol=1e-2
    )


def score_at_one(policy, microbatch, batch):
    logits = read_logits(policy, microbatch).log_softmax(-1)
    return logits.gather(-1, batch.token_ids[:, None]).squeeze(-1).double()


def test_entropies_have_a_gradient_only_on_request(make_policy, episode_builder, scripted_call):
    policy = make_policy()
    batch = flatten([episode_builder(policy).build([scripted_call(3, 4)])])
    (microbatch,) = padded_rows(batch.rows[0], microbatch_tokens=100)
    assert not score(policy, microbatch, batch).entropies.requires_grad
    assert score(policy, microbatch, batch, entropy_gradient=True).entropies.requires_grad


def test_tokens_that_no_row_reads_have_no_logprob(make_policy, episode_builder, scripted_call):
    policy = make_policy()
    builder = episode_builder(policy)
    batch = flatten([builder.build([scripted_call(3, 2)]), builder.build([scripted_call(2, 1)])])
    logprobs = token_logprobs(
        policy, batch, batch.rows[1], layout=padded_rows, microbatch_tokens=100
    )
    assert logprobs.isnan().tolist() == [True, True, False]
    assert logprobs[2].item() == pytest.approx(batch.old_logprobs[2].item(), abs=1e-5)

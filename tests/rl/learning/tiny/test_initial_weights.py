"""Initial weights: attention that copies, drawn from the seed alone."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from astuner_rl.learning.tiny.initial_weights import initialise


def initialised(*, seed: int, noise_std: float) -> Qwen3ForCausalLM:
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=50,
            hidden_size=128,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            tie_word_embeddings=True,
            eos_token_id=None,
        )
    )
    initialise(model, seed=seed, copy_scale=0.5, noise_std=noise_std)
    return model


def written(model: Qwen3ForCausalLM, state: Tensor) -> Tensor:
    """What layer 0 writes where each of its four heads attends to ``state`` alone."""
    attention = model.model.layers[0].self_attn
    values = attention.v_proj(state).reshape(2, 32)
    return attention.o_proj(values.repeat_interleave(2, dim=0).flatten())


@torch.no_grad()
def test_each_pair_of_heads_passes_on_a_projection_of_what_it_attends_to() -> None:
    model = initialised(seed=0, noise_std=0.0)
    read = model.model.layers[0].self_attn.v_proj.weight / 0.5
    state = torch.randn(128, generator=torch.Generator().manual_seed(1))
    # The oracle projects onto each head's subspace by least squares.
    projections = [
        head.T @ torch.linalg.lstsq(head.T, state.unsqueeze(1)).solution.squeeze(1)
        for head in read.split(32)
    ]
    torch.testing.assert_close(written(model, state), 0.25 * sum(projections))


@torch.no_grad()
def test_an_attended_token_is_the_likeliest_next_one() -> None:
    model = initialised(seed=0, noise_std=0.02)
    embeddings = model.get_input_embeddings().weight
    likeliest = [int((embeddings @ written(model, row)).argmax()) for row in embeddings]
    assert likeliest == list(range(50))


def test_weights_depend_on_the_seed_alone() -> None:
    def copying(model: Qwen3ForCausalLM) -> Tensor:
        attention = model.model.layers[1].self_attn
        weights = (attention.v_proj.weight, attention.o_proj.weight, model.lm_head.weight)
        return torch.cat([weight.detach().flatten() for weight in weights])

    first = copying(initialised(seed=3, noise_std=0.02))
    torch.manual_seed(99)
    assert torch.equal(copying(initialised(seed=3, noise_std=0.02)), first)
    assert not torch.equal(copying(initialised(seed=4, noise_std=0.02)), first)

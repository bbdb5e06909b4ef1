"""Initial weights with which attention copies: a small model then learns to use numbers early.

Solving a problem with a tool is mostly copying: numbers of the question and results of earlier
calls go into the next call. From random weights, attention has to discover first that passing on
a token's own embedding predicts that token. Here each value-output pair starts near a projection,
``W_O W_V ~ s^2 P`` with ``P`` onto a random subspace, as it comes out of long training (Trockman &
Kolter 2023, "Mimetic Initialization of Self-Attention Layers", arXiv:2305.09828, which has the
opposite sign for vision). With tied embeddings the logits then rise for whatever is attended to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention


def initialise(
    model: Qwen3ForCausalLM,
    *,
    seed: int,
    embedding_std: float = 0.08,
    copy_scale: float = 0.5,
    noise_std: float = 0.02,
) -> None:
    """Overwrite embeddings and value-output pairs; the rest stays as transformers drew it.

    Args:
        model: Changed in place.
        seed: Of all draws.
        embedding_std: Near ``1 / sqrt(hidden_size)``, at which embeddings have unit length: at
            transformers' 0.02 a token's own logit is too small to begin with.
        copy_scale: The ``s`` above.
        noise_std: Of normal noise on both matrices.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        nn.init.normal_(model.model.embed_tokens.weight, 0.0, embedding_std, generator=generator)
        for module in model.modules():
            if isinstance(module, Qwen3Attention):
                _copying(module, copy_scale, noise_std, generator)


def _copying(
    attention: Qwen3Attention, scale: float, noise_std: float, generator: torch.Generator
) -> None:
    """Let every key-value head read a subspace, and its query heads write back what it read."""
    value, output = attention.v_proj, attention.o_proj
    queries = attention.num_key_value_groups
    subspaces = [
        _orthonormal(attention.head_dim, value.in_features, generator)
        for _ in range(value.out_features // attention.head_dim)
    ]
    read = torch.cat(subspaces)
    write = torch.cat([space.T / queries for space in subspaces for _ in range(queries)], dim=1)
    _set(value, scale * read, noise_std, generator)
    _set(output, scale * write, noise_std, generator)


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Return ``[rows, columns]`` whose rows are orthonormal."""
    basis: Tensor = torch.linalg.qr(torch.randn(columns, rows, generator=generator)).Q
    return basis.T


def _set(linear: nn.Linear, weight: Tensor, noise_std: float, generator: torch.Generator) -> None:
    noise = torch.randn(weight.shape, generator=generator)
    linear.weight.copy_(weight + noise_std * noise)

"""A model of random weights, for runs that show how something behaves and learn nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from astuner_rl.assembly import build_environment
from astuner_rl.composition import compose_experiment
from astuner_rl.learning.tiny.tokenizer import SMALLEST_VOCABULARY, train_tokenizer


def small_tokenizer(environment: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with a chat template.

    Args:
        environment: Settings that choose the environment whose demonstrations it learns.
    """
    demonstrations = build_environment(compose_experiment(environment)).demonstrations
    assert demonstrations is not None
    return train_tokenizer(
        list(islice(demonstrations.train, 8)), vocab_size=SMALLEST_VOCABULARY + 50
    )


def save_random_model(
    folder: Path, *, environment: Sequence[str], initializer_range: float = 0.02
) -> None:
    """Write a Hugging Face folder of one layer, the same in every call.

    Args:
        folder: Is made.
        environment: Settings that choose the environment whose demonstrations the tokenizer learns.
        initializer_range: Standard deviation of the weights; 0.3 makes replies differ.
    """
    tokenizer = small_tokenizer(environment)
    architecture = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        # The least that vLLM has attention for.
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(architecture)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

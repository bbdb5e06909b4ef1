"""A model whose words are known: it says a word, a colon and a space, then one of some choices.

The next token depends on the last one alone: attention and MLP add nothing, each token that the
model says is embedded in a direction of its own, and the head reads from it what follows. At
temperature 0 it is always the same choice; else all of them are equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from astuner_gym.chat.messages import ChatMessage, ChatRole
from astuner_rl.rendering.template import ChatTemplate

SIZE = 32


def save_speaking_model(
    folder: Path, *, tokenizer_from: Path, word: str, choices: Sequence[str]
) -> Path:
    """Write a Hugging Face folder and return it.

    Args:
        folder: Where to.
        tokenizer_from: A Hugging Face folder with the tokenizer to use.
        word: Of unlike characters, all of them other than those of the choices.
        choices: Characters.
    """
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_from)

    def token(text: str) -> int:
        return int(tokenizer.encode(text, add_special_tokens=False)[-1])

    said = [token(character) for character in f"{word}: "]
    ends = [token(character) for character in choices]
    start = token(
        ChatTemplate(tokenizer).render(
            [ChatMessage(role=ChatRole.USER, text="a")], (), add_generation_prompt=True
        )
    )
    assert len({start, *said, *ends}) == 1 + len(said) + len(ends) < SIZE
    follows = [(start, [said[0]])]
    follows += [(here, [after]) for here, after in pairwise(said)]
    follows += [(said[-1], ends), *((end, [tokenizer.eos_token_id]) for end in ends)]
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=SIZE,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    (layer,) = model.model.layers
    with torch.no_grad():
        for weight in (
            layer.self_attn.o_proj.weight,
            layer.mlp.down_proj.weight,
            model.get_input_embeddings().weight,
            model.lm_head.weight,
        ):
            weight.zero_()
        for direction, (here, after) in enumerate(follows):
            model.get_input_embeddings().weight[here, direction] = 1
            model.lm_head.weight[after, direction] = 10
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

"""Stop tokens found in templates, and completions read back."""

from __future__ import annotations

import copy

import pytest

from astuner_gym.chat.parsers import TextParser
from astuner_gym.errors import SettingError
from astuner_rl.rendering.renderer import ChatRenderer, TurnEnd


@pytest.mark.parametrize(
    ("family", "stop_tokens"),
    [
        ("qwen2_5", ["<|im_end|>"]),
        ("qwen3", ["<|im_end|>"]),
        ("llama3", ["<|eot_id|>", "<|end_of_text|>"]),
        ("mistral", ["</s>"]),
    ],
)
def test_stop_tokens_are_found(family, stop_tokens, tokenizer_of, renderer_of):
    ids = renderer_of(family).stop_token_ids
    assert tokenizer_of(family).convert_ids_to_tokens(list(ids)) == stop_tokens


def test_further_stop_tokens_come_last_and_once(tokenizer_of):
    tokenizer = tokenizer_of("llama3")
    tag = tokenizer.convert_tokens_to_ids("<|python_tag|>")
    found = ChatRenderer(tokenizer, TextParser()).stop_token_ids
    given = ChatRenderer(tokenizer, TextParser(), stop_token_ids=(tag, found[0])).stop_token_ids
    assert given == (*found, tag)


def test_a_model_without_any_stop_token_is_refused(tokenizer_of):
    tokenizer = copy.deepcopy(tokenizer_of("qwen2_5"))
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}.{% endfor %}"
    tokenizer.eos_token = None
    with pytest.raises(SettingError, match=r"set tokenizer\.eos_token"):
        ChatRenderer(tokenizer, TextParser())


def test_the_first_stop_token_ends_a_turn(renderer_of):
    renderer = renderer_of("llama3")
    assert renderer.find_turn_end("a<|end_of_text|>b<|eot_id|>", 0) == TurnEnd(1, 16)
    assert renderer.find_turn_end("a<|end_of_text|>b<|eot_id|>", 2) == TurnEnd(17, 27)
    assert renderer.find_turn_end("a", 0) is None

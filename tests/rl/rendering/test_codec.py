"""Pieces of a conversation as tokens: encoded as they would stand in the whole."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from astuner_gym.errors import SettingError
from astuner_rl.rendering.codec import TokenCodec


def metaspace_tokenizer(*, rstrip: bool = False) -> PreTrainedTokenizerFast:
    """Return a tokenizer that puts a space in front of whatever starts a text."""
    vocab = {"<unk>": 0, "▁": 1, "a": 2, "b": 3, "▁a": 4}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "a")], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    backend.add_special_tokens([AddedToken("<end>", rstrip=rstrip)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


def test_a_later_piece_gets_no_space_in_front():
    codec = TokenCodec(metaspace_tokenizer(), anchor_id=5)
    assert codec.encode("a<end>a") == [4, 5, 2]
    assert codec.encode("a") == [4]
    assert codec.encode_later("a") == [2]
    assert codec.encode_later("") == []


def test_an_end_token_swallows_the_space_after_it_as_in_the_whole():
    codec = TokenCodec(metaspace_tokenizer(rstrip=True), anchor_id=5)
    assert codec.encode("a<end> b") == [4, 5, 3]
    assert codec.encode_later(" b") == [3]


def test_truncation_switched_on_by_another_user_does_not_reach_it(tokenizer_of):
    tokenizer = tokenizer_of("qwen2_5")
    tokenizer("one two three four", truncation=True, max_length=2)
    codec = TokenCodec(tokenizer, anchor_id=tokenizer.eos_token_id)
    tokenizer("one two three four", truncation=True, max_length=2)
    assert len(codec.encode("one two three four")) > 2


def test_an_anchor_that_is_ordinary_text_is_refused(tokenizer_of):
    tokenizer = tokenizer_of("qwen2_5")
    ordinary = tokenizer.encode("é", add_special_tokens=False)[0]
    with pytest.raises(SettingError, match="must be one special token"):
        TokenCodec(tokenizer, anchor_id=ordinary)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.text(max_size=8), max_size=6))
def test_turns_encoded_one_by_one_are_the_tokens_of_the_whole(pieces, renderer_of):
    codec = renderer_of("qwen2_5").codec
    turns = [f"{piece}<|im_end|>" for piece in pieces]
    one_by_one = [token for turn in turns for token in codec.encode_later(turn)]
    assert one_by_one == codec.encode("".join(turns))
    assert codec.decode(one_by_one) == "".join(turns)

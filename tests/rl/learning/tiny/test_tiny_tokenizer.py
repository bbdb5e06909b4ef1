"""The tiny tokenizer: every text is kept, numbers and calls are short, prompts are prefixes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from astuner_gym.chat.messages import ChatMessage, ChatRole, Conversation, ToolCall
from astuner_gym.chat.parsers import reply_parser
from astuner_gym.errors import SettingError
from astuner_rl.learning.tiny.tokenizer import SMALLEST_VOCABULARY, train_tokenizer
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.rendering.supervised import render_conversation
from astuner_rl.rendering.template import ChatTemplate

TOOL = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Evaluate arithmetic.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}


def conversation(question: str, arguments: str, result: str, answer: str) -> Conversation:
    return Conversation(
        messages=(
            ChatMessage(role=ChatRole.SYSTEM, text="Be exact."),
            ChatMessage(role=ChatRole.USER, text=question),
            ChatMessage(
                role=ChatRole.ASSISTANT, tool_calls=(ToolCall("calculator", arguments, "c-0"),)
            ),
            ChatMessage(role=ChatRole.TOOL, text=result, tool_call_id="c-0"),
            ChatMessage(role=ChatRole.ASSISTANT, text=answer),
        ),
        tools=(TOOL,),
    )


MARBLES = conversation("Tom has 12 marbles and 3 bags.", '{"expression": "12*3"}', "36", "#### 36")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([MARBLES] * 2, vocab_size=2048)


def rendered(tokenizer: PreTrainedTokenizerFast, messages: Sequence[ChatMessage]) -> str:
    return ChatTemplate(tokenizer).render(messages, (TOOL,), add_generation_prompt=True)


def test_a_conversation_reads_as_chatml_with_hermes_calls(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert rendered(tokenizer, MARBLES.messages) == (
        "<|im_start|>system\nBe exact.\ncalculator(expression)<|im_end|>"
        "<|im_start|>user\nTom has 12 marbles and 3 bags.<|im_end|>"
        '<|im_start|>assistant\n<tool_call>\n{"name": "calculator", "arguments": '
        '{"expression": "12*3"}}\n</tool_call><|im_end|>'
        "<|im_start|>tool\n36<|im_end|>"
        "<|im_start|>assistant\n#### 36<|im_end|>"
        "<|im_start|>assistant\n"
    )


def test_the_sampled_tokens_of_a_call_are_few(tokenizer: PreTrainedTokenizerFast) -> None:
    renderer = ChatRenderer(tokenizer, reply_parser("hermes"))
    (row,) = render_conversation(renderer, MARBLES)
    sampled = [
        tokenizer.decode([token])
        for token, chosen in zip(row.token_ids, row.sampled_mask, strict=True)
        if chosen
    ]
    assert sampled == [
        "<tool_call>",
        '\n{"name": "calculator", "arguments": {',
        '"expression": "',
        "12",
        "*",
        "3",
        '"}}\n',
        "</tool_call>",
        "<|im_end|>",
        "####",
        " ",
        "36",
        "<|im_end|>",
    ]


def test_every_number_below_1000_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [tokenizer.encode(str(number)) for number in range(1000)]
    assert all(len(encoded) == 1 for encoded in ids)
    assert len({encoded[0] for encoded in ids}) == 1000


def test_longer_numbers_are_cut_from_the_left(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = [tokenizer.decode([token]) for token in tokenizer.encode("1234567")]
    assert pieces == ["123", "456", "7"]


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_any_text_is_kept(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=4), arguments=st.text(max_size=20))
def test_a_prompt_is_a_prefix_of_every_longer_one(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], arguments: str
) -> None:
    messages: list[ChatMessage] = []
    before = ""
    for text in texts:
        messages.append(ChatMessage(role=ChatRole.USER, text=text))
        after = rendered(tokenizer, messages)
        assert after.startswith(before)
        before = after
        call = ToolCall("calculator", json.dumps({"expression": arguments}))
        messages.append(ChatMessage(role=ChatRole.ASSISTANT, text=text, tool_calls=(call, call)))


def test_arguments_that_are_no_object_stay_as_they_were_written(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    call = ToolCall("calculator", '{"expression": 1*')
    message = ChatMessage(role=ChatRole.ASSISTANT, text="So", tool_calls=(call,))
    assert (
        'So\n<tool_call>\n{"name": "calculator", "arguments": {"expression": 1*}\n</tool_call>'
        in rendered(tokenizer, [message])
    )


def test_a_conversation_without_system_message_or_tools_has_no_system_part(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    text = ChatTemplate(tokenizer).render(
        [ChatMessage(role=ChatRole.USER, text="hi")], (), add_generation_prompt=False
    )
    assert text == "<|im_start|>user\nhi<|im_end|>"


def test_a_tool_without_parameters_is_listed(tokenizer: PreTrainedTokenizerFast) -> None:
    tool = {"type": "function", "function": {"name": "roll"}}
    text = ChatTemplate(tokenizer).render(
        [ChatMessage(role=ChatRole.USER, text="hi")], (tool, TOOL), add_generation_prompt=False
    )
    assert text.startswith("<|im_start|>system\nroll()\ncalculator(expression)<|im_end|>")


def test_a_vocabulary_below_bytes_marks_and_numbers_is_refused() -> None:
    with pytest.raises(
        SettingError, match=f"vocab_size must be >= {SMALLEST_VOCABULARY} .* got 9;"
    ):
        train_tokenizer([MARBLES], vocab_size=9)


def test_the_smallest_vocabulary_encodes_any_text() -> None:
    tokenizer = train_tokenizer([MARBLES], vocab_size=SMALLEST_VOCABULARY)
    assert len(tokenizer) == SMALLEST_VOCABULARY
    assert tokenizer.decode(tokenizer.encode("Zoë: 1,234 · 漢")) == "Zoë: 1,234 · 漢"

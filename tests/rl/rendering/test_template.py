"""Messages as text: equal to transformers', without clock text, and with refusals explained."""

from __future__ import annotations

import copy

import pytest

from astuner_gym.chat.messages import ChatMessage, ChatRole, ToolCall
from astuner_gym.errors import SettingError
from astuner_rl.errors import RenderingError
from astuner_rl.rendering.template import ChatTemplate

SYSTEM, USER, ASSISTANT, TOOL = ChatRole.SYSTEM, ChatRole.USER, ChatRole.ASSISTANT, ChatRole.TOOL

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add <b>numbers</b> & more.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}

MESSAGES = (
    ChatMessage(role=SYSTEM, text="You add."),
    ChatMessage(role=USER, text="1 + 2, bitte schön"),
    ChatMessage(
        role=ASSISTANT, thinking="Hm.", tool_calls=(ToolCall("add", '{"b":2,"a":"ö"}', "ann-0-0"),)
    ),
    ChatMessage(role=TOOL, text="3", tool_call_id="ann-0-0", name="add"),
)
AS_DICTS = [
    {"role": "system", "content": "You add."},
    {"role": "user", "content": "1 + 2, bitte schön"},
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": "Hm.",
        "tool_calls": [
            {
                "type": "function",
                "id": "call00000",
                "function": {"name": "add", "arguments": {"b": 2, "a": "ö"}},
            }
        ],
    },
    {"role": "tool", "content": "3", "tool_call_id": "call00000", "name": "add"},
]


@pytest.mark.parametrize("family", ["qwen2_5", "qwen3", "llama3", "mistral"])
@pytest.mark.parametrize("tools", [(), (ADD,)])
@pytest.mark.parametrize("generate", [True, False])
def test_text_and_tokens_equal_those_of_transformers(
    family, tools, generate, tokenizer_of, renderer_of
):
    tokenizer, renderer = tokenizer_of(family), renderer_of(family)
    text = renderer.template.render(MESSAGES, tools, add_generation_prompt=generate)
    assert text == tokenizer.apply_chat_template(
        AS_DICTS, tools=list(tools) or None, add_generation_prompt=generate, tokenize=False
    )
    assert renderer.codec.encode(text) == tokenizer.apply_chat_template(
        AS_DICTS, tools=list(tools) or None, add_generation_prompt=generate, return_dict=False
    )


def test_variables_reach_the_template(tokenizer_of):
    template = ChatTemplate(tokenizer_of("qwen3"), {"enable_thinking": False})
    text = template.render(MESSAGES[:2], (), add_generation_prompt=True)
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def with_template(tokenizer, template):
    """Return a copy of a tokenizer with another chat template."""
    changed = copy.copy(tokenizer)
    changed.chat_template = template
    return changed


def test_call_ids_are_nine_characters_by_position(tokenizer_of):
    source = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.id }} {% endfor %}"
        "{% if m.tool_call_id %}<{{ m.tool_call_id }}>{% endif %}{% endfor %}"
    )
    template = ChatTemplate(with_template(tokenizer_of("qwen2_5"), source))
    calls = (ToolCall("f", "{}", "x"), ToolCall("f", "{}", "y"))
    nameless = (ToolCall("f", "{}"), ToolCall("f", "{}"))
    messages = (
        ChatMessage(role=ASSISTANT, tool_calls=calls),
        ChatMessage(role=TOOL, tool_call_id="y"),
        ChatMessage(role=TOOL, tool_call_id="x"),
        ChatMessage(role=ASSISTANT, tool_calls=nameless),
        ChatMessage(role=TOOL),
        ChatMessage(role=TOOL),
    )
    assert template.render(messages, (), add_generation_prompt=False) == (
        "call00000 call00001 <call00001><call00000>call00002 call00003 <call00002><call00003>"
    )


def test_arguments_that_are_no_object_reach_the_template_as_text(tokenizer_of):
    source = "{% for m in messages %}{{ m.tool_calls[0].function | tojson }}{% endfor %}"
    template = ChatTemplate(with_template(tokenizer_of("qwen2_5"), source))
    message = ChatMessage(role=ASSISTANT, tool_calls=(ToolCall("f", "x <1>"),))
    text = template.render((message,), (), add_generation_prompt=False)
    assert text == '{"name": "f", "arguments": "x <1>"}'


def test_todays_date_is_always_the_same_day(tokenizer_of):
    source = "{{ strftime_now('%d %b %Y') }}"
    template = ChatTemplate(with_template(tokenizer_of("qwen2_5"), source))
    assert template.render((), (), add_generation_prompt=False) == "26 Jul 2024"


def test_a_template_for_tools_is_used_with_tools_only(tokenizer_of):
    pair = {"default": "plain", "tool_use": "{{ tools | length }} tool"}
    template = ChatTemplate(with_template(tokenizer_of("qwen2_5"), pair))
    assert template.render((), (), add_generation_prompt=False) == "plain"
    assert template.render((), (ADD,), add_generation_prompt=False) == "1 tool"


def test_loop_controls_and_generation_blocks_are_understood(tokenizer_of):
    source = (
        "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    )
    template = ChatTemplate(with_template(tokenizer_of("qwen2_5"), source))
    assert template.render(MESSAGES, (), add_generation_prompt=False) == "You add."


def test_lone_surrogates_are_replaced(renderer_of):
    message = ChatMessage(role=USER, text="a\ud800b \ud83d\ude00")
    text = renderer_of("qwen2_5").template.render((message,), (), add_generation_prompt=True)
    assert "a\ufffdb \U0001f600" in text
    assert renderer_of("qwen2_5").codec.encode(text)


def test_a_refused_conversation_names_rule_and_roles(renderer_of):
    messages = (ChatMessage(role=USER, text="a"), ChatMessage(role=USER, text="b"))
    with pytest.raises(RenderingError, match=r"roles must alternate.*\[user, user\].*change"):
        renderer_of("mistral").template.render(messages, (), add_generation_prompt=True)


def test_a_template_that_fails_is_a_refusal_and_cannot_change_anything(tokenizer_of):
    for source in (
        "{{ messages[0].content + 1 }}",
        "{{ messages.clear() }}",
        "{{ x.__class__.__mro__ }}",
    ):
        template = ChatTemplate(with_template(tokenizer_of("qwen2_5"), source), {"x": "y"})
        with pytest.raises(RenderingError, match="chat template"):
            template.render(MESSAGES, (), add_generation_prompt=True)


def test_a_tokenizer_without_template_or_with_a_broken_one_is_refused(tokenizer_of):
    with pytest.raises(SettingError, match=r"set tokenizer\.chat_template"):
        ChatTemplate(with_template(tokenizer_of("qwen2_5"), None))
    with pytest.raises(SettingError, match="must compile"):
        ChatTemplate(with_template(tokenizer_of("qwen2_5"), "{% for %}"))

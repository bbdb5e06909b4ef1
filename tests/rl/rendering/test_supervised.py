"""Conversations to learn from: the tokens of a policy that had written them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatMessage, ChatRole, Conversation, ToolCall
from astuner_gym.chat.parsers import HermesParser
from astuner_rl.errors import RenderingError
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.rendering.supervised import SupervisedRow, render_conversation

TOOLS = ({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},)


def message(role: str, text: str = "", **fields: object) -> ChatMessage:
    return ChatMessage(role=ChatRole(role), text=text, **fields)


def spans(renderer: ChatRenderer, row: SupervisedRow) -> list[tuple[bool, str]]:
    """Return a row as alternating pieces of text, each with its mask."""
    pieces: list[tuple[bool, list[int]]] = []
    for token, sampled in zip(row.token_ids, row.sampled_mask, strict=True):
        if not pieces or pieces[-1][0] != sampled:
            pieces.append((sampled, []))
        pieces[-1][1].append(token)
    return [(sampled, renderer.codec.decode(tokens)) for sampled, tokens in pieces]


def test_the_worked_example_of_the_docstring(renderer_of):
    renderer = renderer_of("qwen2_5")
    conversation = Conversation(
        messages=(
            message("system", "S"),
            message("user", "hi"),
            message("assistant", "yo"),
            message("user", "?"),
            message("assistant", "ok"),
            message("user", "left out"),
        )
    )
    (row,) = render_conversation(renderer, conversation)
    assert spans(renderer, row) == [
        (
            False,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
        (True, "yo<|im_end|>"),
        (False, "\n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n"),
        (True, "ok<|im_end|>"),
    ]


TOOL_LOOP = Conversation(
    messages=(
        message("user", "1+2"),
        message("assistant", tool_calls=(ToolCall("add", '{"a":1,"b":2}', "x"),)),
        message("tool", "3", tool_call_id="x", name="add"),
        message("assistant", "Three."),
    ),
    tools=TOOLS,
)


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        (
            "qwen2_5",
            [
                '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
                "<|im_end|>",
                "Three.<|im_end|>",
            ],
        ),
        (
            "llama3",
            ['{"name": "add", "parameters": {"a": 1, "b": 2}}<|eot_id|>', "Three.<|eot_id|>"],
        ),
        (
            "mistral",
            [
                '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1, "b": 2}, "id": "call00000"}]'
                "</s>",
                "Three.</s>",
            ],
        ),
    ],
)
def test_a_tool_loop_is_one_row_with_end_of_turn_trained(family, targets, renderer_of):
    renderer = renderer_of(family)
    (row,) = render_conversation(renderer, TOOL_LOOP)
    pieces = spans(renderer, row)
    assert [text for sampled, text in pieces if sampled] == targets
    whole = renderer.template.render(TOOL_LOOP.messages, TOOLS, add_generation_prompt=False)
    assert whole.removesuffix("\n") == "".join(text for _, text in pieces)


def test_turns_that_the_template_strips_are_rows_of_their_own(renderer_of):
    renderer = renderer_of("qwen3")
    conversation = Conversation(
        messages=(
            message("user", "a"),
            message("assistant", "A", thinking="one"),
            message("user", "b"),
            message("assistant", "B", thinking="two"),
        )
    )
    first, second = render_conversation(renderer, conversation)
    assert spans(renderer, first) == [
        (False, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
        (True, "<think>\none\n</think>\n\nA<|im_end|>"),
    ]
    assert spans(renderer, second) == [
        (
            False,
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
            "<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n",
        ),
        (True, "<think>\ntwo\n</think>\n\nB<|im_end|>"),
    ]


def test_thinking_is_one_row_within_a_tool_loop(renderer_of):
    renderer = renderer_of("qwen3")
    conversation = Conversation(
        messages=(
            message("user", "1+2"),
            message("assistant", thinking="Hm.", tool_calls=(ToolCall("add", "{}", "x"),)),
            message("tool", "3", tool_call_id="x"),
            message("assistant", "Three.", thinking="So."),
        ),
        tools=TOOLS,
    )
    (row,) = render_conversation(renderer, conversation)
    assert sum(sampled for sampled, _ in spans(renderer, row)) == 2


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=4))
def test_every_message_is_a_target_once_and_encoded_on_its_own(turns, renderer_of):
    renderer = renderer_of("qwen2_5")
    messages = [
        message(role, text)
        for asked, answered in turns
        for role, text in (("user", asked), ("assistant", answered))
    ]
    (row,) = render_conversation(renderer, Conversation(messages=tuple(messages)))
    expected = [
        token for _, answered in turns for token in renderer.codec.encode(answered + "<|im_end|>")
    ]
    pairs = zip(row.token_ids, row.sampled_mask, strict=True)
    assert [token for token, sampled in pairs if sampled] == expected


def test_a_conversation_without_assistant_is_refused(renderer_of):
    with pytest.raises(RenderingError, match=r"must hold an assistant message.*\[user\]"):
        render_conversation(renderer_of("qwen2_5"), Conversation(messages=(message("user", "a"),)))


@pytest.mark.parametrize(
    "bad",
    [
        message("assistant", "a<|im_end|>b"),
        message("assistant", tool_calls=(ToolCall("f", '{"a": "<|im_end|>"}'),)),
    ],
)
def test_a_message_that_spells_a_stop_token_is_refused(bad, renderer_of):
    with pytest.raises(RenderingError, match=r"message 1 holds '<\|im_end\|>'"):
        render_conversation(
            renderer_of("qwen2_5"), Conversation(messages=(message("user", "a"), bad))
        )


def test_a_message_rendered_without_its_prompt_is_refused(tokenizer_of):
    renderer = ChatRenderer(
        tokenizer_of("qwen3"), HermesParser(), template_variables={"enable_thinking": False}
    )
    conversation = Conversation(
        messages=(message("user", "a"), message("assistant", "A", thinking="one"))
    )
    with pytest.raises(RenderingError, match="enable_thinking"):
        render_conversation(renderer, conversation)

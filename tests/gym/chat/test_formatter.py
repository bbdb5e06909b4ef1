"""How AgentScope messages become prompts, checked message by message."""

from __future__ import annotations

import asyncio

import pytest
from agentscope.formatter import FormatterBase, OpenAIChatFormatter, OpenAIMultiAgentFormatter
from agentscope.message import (
    AssistantMsg,
    Base64Source,
    ContentBlock,
    DataBlock,
    HintBlock,
    Msg,
    SystemMsg,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultBlock,
    UserMsg,
)
from hypothesis import given
from hypothesis import strategies as st

from astuner_gym.chat.formatter import ExtendingFormatter
from astuner_gym.chat.messages import ChatMessage, ChatRole, ToolCall
from astuner_gym.chat.openai_format import message_from_openai
from astuner_gym.errors import WorkflowError

SYSTEM, USER, ASSISTANT, TOOL = ChatRole.SYSTEM, ChatRole.USER, ChatRole.ASSISTANT, ChatRole.TOOL


def prompt(*messages: Msg) -> tuple[ChatMessage, ...]:
    return ExtendingFormatter(agent="Ann").prompt(messages)


def formatted(formatter: FormatterBase, *messages: Msg) -> list[ChatMessage]:
    return [message_from_openai(message) for message in asyncio.run(formatter.format([*messages]))]


def result(call_id: str, text: str) -> ToolResultBlock:
    return ToolResultBlock(id=call_id, name="add", output=[TextBlock(text=text)])


def image() -> DataBlock:
    return DataBlock(source=Base64Source(data="", media_type="image/png"))


def test_own_turns_are_the_assistants_and_other_speakers_are_quoted() -> None:
    assert prompt(
        SystemMsg(name="system", content="Be brief."),
        UserMsg(name="user", content="Say hi."),
        AssistantMsg(name="Ann", content="Hello."),
        AssistantMsg(name="Bob", content="Hi Ann."),
        UserMsg(name="host", content="Go on."),
    ) == (
        ChatMessage(role=SYSTEM, text="Be brief."),
        ChatMessage(role=USER, text="Say hi."),
        ChatMessage(role=ASSISTANT, text="Hello."),
        ChatMessage(role=USER, text="Bob: Hi Ann.", name="Bob"),
        ChatMessage(role=USER, text="host: Go on.", name="host"),
    )


def test_one_agentscope_message_is_split_where_a_call_ended() -> None:
    blocks: list[ContentBlock] = [
        ThinkingBlock(thinking="Add.", id="Ann-0-thinking"),
        TextBlock(text="I add.", id="Ann-0-text"),
        ToolCallBlock(id="Ann-0-0", name="add", input='{"a":1,  "b":2}'),
        result("Ann-0-0", "3"),
        ThinkingBlock(thinking="Hm.", id="Ann-1-thinking"),
        TextBlock(text="Three.", id="Ann-2-text"),
    ]
    assert prompt(AssistantMsg(name="Ann", content=blocks)) == (
        ChatMessage(
            role=ASSISTANT,
            text="I add.",
            thinking="Add.",
            tool_calls=(ToolCall("add", '{"a":1,  "b":2}'),),
        ),
        ChatMessage(role=TOOL, text="3", tool_call_id="Ann-0-0", name="add"),
        ChatMessage(role=ASSISTANT, thinking="Hm."),
        ChatMessage(role=ASSISTANT, text="Three."),
    )


def test_results_are_in_the_order_of_their_calls() -> None:
    calls = [ToolCallBlock(id=f"Ann-0-{n}", name="add", input="{}") for n in range(2)]
    late_first: list[ContentBlock] = [
        *calls,
        result("Ann-0-1", "second"),
        result("Ann-0-0", "first"),
    ]
    texts = [message.text for message in prompt(AssistantMsg(name="Ann", content=late_first))]
    assert texts == ["", "first", "second"]


def test_a_hint_is_a_user_message_between_turns() -> None:
    blocks: list[ContentBlock] = [
        TextBlock(text="One.", id="Ann-0-text"),
        HintBlock(hint="Go on."),
        TextBlock(text="Two.", id="Ann-1-text"),
    ]
    assert [(message.role, message.text) for message in prompt(AssistantMsg("Ann", blocks))] == [
        (ASSISTANT, "One."),
        (USER, "Go on."),
        (ASSISTANT, "Two."),
    ]


def test_an_empty_reply_is_still_a_turn() -> None:
    empty = AssistantMsg("Ann", [TextBlock(text="", id="Ann-0-text")])
    assert prompt(empty) == (ChatMessage(role=ASSISTANT),)


def test_an_agent_of_another_name_than_its_model_is_known_by_its_blocks() -> None:
    own = AssistantMsg("Detective", [TextBlock(text="Me.", id="Ann-0-text")])
    others = AssistantMsg("Detective", [TextBlock(text="You.", id="Ann-1-0-text")])
    assert [message.role for message in prompt(own, others)] == [ASSISTANT, USER]


@pytest.mark.parametrize(
    "message",
    [
        UserMsg("user", [image()]),
        AssistantMsg("Ann", [image()]),
        AssistantMsg("Ann", [ToolResultBlock(id="x", name="draw", output=[image()])]),
    ],
)
def test_data_other_than_text_is_refused(message: Msg) -> None:
    with pytest.raises(WorkflowError, match="text only, got a block of 'image/png'"):
        prompt(message)


@given(st.lists(st.sampled_from(["text", "thinking", "tools", "hint"]), max_size=8))
def test_a_prompt_extends_the_prompt_before(kinds: list[str]) -> None:
    message = AssistantMsg("Ann", [])
    before = prompt(message)
    for index, kind in enumerate(kinds):
        said: dict[str, list[ContentBlock]] = {
            "text": [TextBlock(text="t", id=f"Ann-{index}-text")],
            "thinking": [ThinkingBlock(thinking="h", id=f"Ann-{index}-thinking")],
            "tools": [
                ToolCallBlock(id=f"Ann-{index}-0", name="add", input="{}"),
                result(f"Ann-{index}-0", "r"),
            ],
            "hint": [HintBlock(hint="g")],
        }
        message.content += said[kind]
        after = prompt(message)
        assert after[: len(before)] == before
        assert len(after) > len(before)
        before = after


def test_openai_dicts_of_the_same_prompt_read_back_as_it() -> None:
    message = AssistantMsg(
        "Ann",
        [
            ThinkingBlock(thinking="Add.", id="Ann-0-thinking"),
            ToolCallBlock(id="Ann-0-0", name="add", input="{}"),
            result("Ann-0-0", "3"),
        ],
    )
    messages = [UserMsg("Bob", "Add."), message]
    formatter = ExtendingFormatter(agent="Ann")
    assert formatted(formatter, *messages) == [*prompt(*messages)]


def test_the_prompt_of_an_agentscope_formatter_is_read() -> None:
    messages = [
        UserMsg("user", "Add."),
        AssistantMsg("Ann", [ToolCallBlock(id="c", name="add", input="{}"), result("c", "3")]),
    ]
    assert formatted(OpenAIChatFormatter(), *messages) == [
        ChatMessage(role=USER, text="Add.", name="user"),
        ChatMessage(role=ASSISTANT, tool_calls=(ToolCall("add", "{}"),), name="Ann"),
        ChatMessage(role=TOOL, text="3", tool_call_id="c", name="add"),
    ]


def test_the_multi_agent_formatter_gives_one_history() -> None:
    messages = [UserMsg("host", "Say hi."), AssistantMsg("Ann", "Hi.")]
    (history,) = formatted(OpenAIMultiAgentFormatter(), *messages)
    assert history.role is USER
    assert "host: Say hi.\nAnn: Hi." in history.text


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ({"role": "developer", "content": ""}, "role must be one of"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "text only, got a block of"),
    ],
)
def test_an_openai_dict_that_is_no_text_message_is_refused(
    message: dict[str, object], rule: str
) -> None:
    with pytest.raises(WorkflowError, match=rule):
        message_from_openai(message)

"""Spaces of text and of messages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatMessage, ChatRole, ToolCall
from astuner_gym.errors import SettingError
from astuner_gym.spaces import Messages, UnicodeText

texts = st.text(max_size=20)
calls = st.builds(ToolCall, name=texts, arguments=texts, id=texts)
messages = st.builds(
    ChatMessage,
    role=st.sampled_from(list(ChatRole)),
    text=texts,
    thinking=texts,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    tool_call_id=texts,
    name=texts,
)


@given(texts)
def test_any_text_within_the_length_is_contained_and_survives_json(text: str) -> None:
    space = UnicodeText(20)
    assert text in space
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable([text])))) == [text]


@pytest.mark.parametrize("stranger", ["four", "a\ud800", b"abc", 3, None])
def test_what_is_too_long_or_no_text_is_not_contained(stranger: object) -> None:
    assert stranger not in UnicodeText(3)


def test_code_points_are_counted_not_bytes() -> None:
    assert "🐙学ß" in UnicodeText(3)


@given(st.integers(min_value=0, max_value=2**31), st.integers(min_value=1, max_value=200))
def test_samples_are_short_printable_and_drawn_from_the_seed(seed: int, length: int) -> None:
    space, same = UnicodeText(length, seed=seed), UnicodeText(length, seed=seed)
    samples = [space.sample() for _ in range(3)]
    assert samples == [same.sample() for _ in range(3)]
    assert all(sample in space and len(sample) <= 64 for sample in samples)
    assert all(sample.isprintable() and sample.isascii() for sample in samples)


def test_spaces_are_equal_by_what_they_contain() -> None:
    assert UnicodeText(3) == UnicodeText(3) != UnicodeText(4)
    assert Messages(UnicodeText(3)) == Messages(UnicodeText(3)) != Messages(UnicodeText(4))
    assert len({UnicodeText(3), UnicodeText(3, seed=1)}) == 1
    assert repr(Messages(UnicodeText(3))) == "Messages(UnicodeText(3))"


def test_a_text_space_needs_room() -> None:
    with pytest.raises(SettingError, match=r"max_length must be >= 1 .* got 0"):
        UnicodeText(0)


@given(st.lists(messages, max_size=3).map(tuple))
def test_messages_are_contained_and_survive_json(prompt: tuple[ChatMessage, ...]) -> None:
    space = Messages(UnicodeText(20))
    assert prompt in space
    jsonable = json.loads(json.dumps(space.to_jsonable([prompt])))
    (restored,) = space.from_jsonable(jsonable)
    assert restored == prompt
    assert [m.tool_calls and m.tool_calls[0].id for m in restored] == [
        m.tool_calls and m.tool_calls[0].id for m in prompt
    ]


@pytest.mark.parametrize(
    "stranger",
    [
        [ChatMessage(role=ChatRole.USER)],
        ("hello",),
        (ChatMessage(role=ChatRole.USER, text="four"),),
        (ChatMessage(role=ChatRole.ASSISTANT, tool_calls=(ToolCall("a", "four"),)),),
    ],
)
def test_what_is_no_prompt_of_the_space_is_not_contained(stranger: object) -> None:
    assert stranger not in Messages(UnicodeText(3))


def test_a_seed_fixes_sampled_messages() -> None:
    space, same = Messages(UnicodeText(20)), Messages(UnicodeText(20))
    space.seed(4)
    same.seed(4)
    assert [space.sample() for _ in range(3)] == [same.sample() for _ in range(3)]
    assert space.sample() in space

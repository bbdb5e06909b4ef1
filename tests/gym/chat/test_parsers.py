"""Reply parsers: formats, raw arguments, malformed and hostile text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatReply, ToolCall
from astuner_gym.chat.parsers import (
    MAX_MALFORMED,
    MAX_NESTING,
    HermesParser,
    Llama3Parser,
    MistralParser,
    TextParser,
    guess_reply_parser,
    json_object,
    reply_parser,
    split_thinking,
)
from astuner_gym.errors import SettingError

PARSERS = ("hermes", "llama3", "mistral", "text")

MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>")
TEXT = st.text() | st.sampled_from(MARKS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def test_the_worked_example_of_the_module():
    text = (
        "<think>\nAdd them.\n</think>\n\nI add.\n"
        '<tool_call>\n{"name": "add", "arguments": {"a":1,  "b":2}}\n</tool_call>'
    )
    assert HermesParser().parse(text) == ChatReply(
        text="I add.",
        thinking="Add them.",
        tool_calls=(ToolCall("add", '{"a":1,  "b":2}'),),
    )


@pytest.mark.parametrize(
    ("text", "thinking", "rest"),
    [
        ("Yes.", "", "Yes."),
        ("  Yes.\n", "", "  Yes.\n"),
        ("<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes."),
        ("Hm.\n</think>\n\nYes.", "Hm.", "Yes."),
        ("<think>\n\n</think>\n\nYes.", "", "Yes."),
        ("<think>\nHm, and", "Hm, and", ""),
        ("Yes. <think>", "", "Yes. <think>"),
        ("Hm. </think> \nYes.", "Hm. ", "Yes."),
        ("Hm.</think>", "Hm.", ""),
        ("<think>Hm.</think>Yes.</think>", "Hm.", "Yes.</think>"),
        ("Say </think>!", "", "Say </think>!"),
    ],
)
def test_thinking_is_split_off(text, thinking, rest):
    assert split_thinking(text) == (thinking, rest)
    assert TextParser().parse(text) == ChatReply(text=rest, thinking=thinking)


@pytest.mark.parametrize(
    ("parser", "text", "expected"),
    [
        (
            HermesParser(),
            '<tool_call>{"name":"f","arguments":{}}</tool_call>\n'
            '<tool_call>{"arguments": {"x": 1}, "name": "g"}</tool_call>',
            ChatReply(text="", tool_calls=(ToolCall("f", "{}"), ToolCall("g", '{"x": 1}'))),
        ),
        (
            HermesParser(),
            'a <tool_call>{"name":"say","arguments":{"t":"</tool_call>}{"}}</tool_call> b',
            ChatReply(text="a\nb", tool_calls=(ToolCall("say", '{"t":"</tool_call>}{"}'),)),
        ),
        (
            HermesParser(),
            '<tool_call>{"name":"say","arguments":{"t":"</think>"}}</tool_call>',
            ChatReply(text="", tool_calls=(ToolCall("say", '{"t":"</think>"}'),)),
        ),
        (
            Llama3Parser(),
            '{"name": "f", "parameters": {"x": [1,2]}}',
            ChatReply(text="", tool_calls=(ToolCall("f", '{"x": [1,2]}'),)),
        ),
        (
            Llama3Parser(),
            'Now. <|python_tag|>{"name":"f","parameters":{}}; {"name":"g","arguments":{"y":0}}',
            ChatReply(text="Now.", tool_calls=(ToolCall("f", "{}"), ToolCall("g", '{"y":0}'))),
        ),
        (
            Llama3Parser(),
            'It is {"name": "f", "parameters": {}}',
            ChatReply(text='It is {"name": "f", "parameters": {}}'),
        ),
        (Llama3Parser(), '{"name": "Bob"}', ChatReply(text='{"name": "Bob"}')),
        (
            MistralParser(),
            '[TOOL_CALLS] [{"name":"f","arguments":{},"id":"abcdefghi"},'
            ' {"name":"g","arguments":{"x":1}}]',
            ChatReply(text="", tool_calls=(ToolCall("f", "{}"), ToolCall("g", '{"x":1}'))),
        ),
        (
            MistralParser(),
            'Now.[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g[CALL_ID]abcdefghi[ARGS]{}',
            ChatReply(text="Now.", tool_calls=(ToolCall("f", '{"x": 1}'), ToolCall("g", "{}"))),
        ),
    ],
)
def test_calls_are_read_with_their_raw_arguments(parser, text, expected):
    assert parser.parse(text) == expected


HERMES_CALL = '<tool_call>{"name":"f","arguments":%s}</tool_call>'


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (HermesParser(), '<tool_call>{"name": "f", "arguments": {}'),
        (HermesParser(), '<tool_call>{"name": "f", "arguments": {}}'),
        (HermesParser(), '<tool_call>{"name": "f"}</tool_call>'),
        (HermesParser(), '<tool_call>{"name": "", "arguments": {}}</tool_call>'),
        (HermesParser(), '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>'),
        (HermesParser(), '<tool_call>{"name": ["f"], "arguments": {}}</tool_call>'),
        (HermesParser(), HERMES_CALL % '"{}"'),
        (HermesParser(), HERMES_CALL % "{'a': 1}"),
        (HermesParser(), HERMES_CALL % '{"a": 1,}'),
        (HermesParser(), "<tool_call>f()</tool_call>"),
        (Llama3Parser(), '<|python_tag|>search.call(query="x")'),
        (Llama3Parser(), '{"name": "f", "parameters": {}} and more'),
        (Llama3Parser(), '{"name": "f", "parameters": {"x": 1'),
        (MistralParser(), '[TOOL_CALLS] [{"name":"f","arguments":{}}, {"name":"g"}]'),
        (MistralParser(), '[TOOL_CALLS] [{"name":"f","arguments":{}}'),
        (MistralParser(), "[TOOL_CALLS]f[ARGS]{"),
        (MistralParser(), "[TOOL_CALLS]"),
    ],
)
def test_a_malformed_call_stays_in_the_text(parser, text):
    assert parser.parse(text) == ChatReply(text=text, malformed_tool_call=True)


def test_a_malformed_call_does_not_hide_a_good_one():
    reply = HermesParser().parse("<tool_call>{bad</tool_call>\n" + HERMES_CALL % "{}")
    assert reply == ChatReply(
        text="<tool_call>{bad</tool_call>",
        tool_calls=(ToolCall("f", "{}"),),
        malformed_tool_call=True,
    )


def test_after_many_malformed_calls_the_rest_is_text():
    text = "<tool_call>{" * MAX_MALFORMED + HERMES_CALL % "{}"
    assert HermesParser().parse(text) == ChatReply(text=text, malformed_tool_call=True)


def test_the_last_of_two_equal_keys_counts_as_in_json():
    reply = HermesParser().parse(
        '<tool_call>{"name":"f","arguments":{"x":1},"arguments":{"x":2}}</tool_call>'
    )
    assert reply.tool_calls == (ToolCall("f", '{"x":2}'),)


def test_nesting_is_limited_and_brackets_in_strings_do_not_count():
    def nested(depth: int) -> str:  # the call's own object is one level, the arguments are one
        return HERMES_CALL % ('{"[[{\\"":' + "[" * (depth - 2) + "]" * (depth - 2) + "}")

    assert len(HermesParser().parse(nested(MAX_NESTING)).tool_calls) == 1
    assert HermesParser().parse(nested(MAX_NESTING + 1)).malformed_tool_call


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    "unit",
    [
        "<tool_call>",
        '<tool_call>{"name": "f", "arguments": {"x": ',
        '<tool_call>{"',
        '<tool_call>{"\\"',
        "[TOOL_CALLS] [",
        '[TOOL_CALLS]f[ARGS]{"x":[',
        '{"name": "f", "parameters": {"x": ',
        "[",
        "<think>",
        " ",
    ],
)
def test_hostile_text_is_read_without_error(name, unit):
    """Half a million characters: with quadratic time this would run into the time limit."""
    text = unit * (500_000 // len(unit))
    reply = reply_parser(name).parse(text)
    assert reply.tool_calls == ()


def test_digits_beyond_the_interpreters_limit_are_malformed():
    assert HermesParser().parse(HERMES_CALL % ('{"x":' + "1" * 5000 + "}")).malformed_tool_call


@settings(deadline=None)
@given(st.sampled_from(PARSERS), st.text(alphabet='<>[]{}":,/\\ athink_ol\n', max_size=60))
def test_any_text_is_accepted(name, text):
    reply = reply_parser(name).parse(text)
    assert reply.tool_calls or text.endswith(reply.text)


@settings(deadline=None)
@given(
    name=TEXT.filter(bool),
    arguments=st.dictionaries(TEXT, JSON, max_size=4),
    indent=st.none() | st.integers(0, 3),
    ascii_only=st.booleans(),
)
def test_written_calls_are_read_back_to_the_character(name, arguments, indent, ascii_only):
    raw = json.dumps(arguments, indent=indent, ensure_ascii=ascii_only)
    quoted = json.dumps(name)
    texts = {
        "hermes": f'<tool_call>\n{{"name": {quoted}, "arguments": {raw}}}\n</tool_call>',
        "llama3": f'{{"name": {quoted}, "parameters": {raw}}}',
        "mistral": f'[TOOL_CALLS] [{{"name": {quoted}, "arguments": {raw}}}]',
    }
    for parser, text in texts.items():
        assert reply_parser(parser).parse(text) == ChatReply(
            text="", tool_calls=(ToolCall(name, raw),)
        )


def test_json_object_accepts_one_object_only():
    assert json_object(' {"a": [1]} ') == {"a": [1]}
    for text in ("", "[]", "1", "{} {}", "{", '{"a": ' + "[" * 2000):
        assert json_object(text) is None


def test_an_unknown_parser_is_refused_with_the_choices():
    with pytest.raises(SettingError, match="hermes, llama3, mistral, text, got 'qwen'"):
        reply_parser("qwen")


TEMPLATES = Path(__file__).parents[2] / "rl" / "rendering" / "templates"


@pytest.mark.parametrize(
    ("template", "parser"),
    [
        ("qwen2_5.jinja", "hermes"),
        ("qwen3.jinja", "hermes"),
        ("llama3_1.jinja", "llama3"),
        ("mistral_v3_tekken.jinja", "mistral"),
    ],
)
def test_the_parser_of_a_real_template_is_guessed(template, parser):
    assert guess_reply_parser((TEMPLATES / template).read_text(encoding="utf-8")) == parser


def test_a_template_without_tools_needs_no_tool_parser():
    assert guess_reply_parser("{% for m in messages %}{{ m.content }}{% endfor %}") == "text"


def test_an_unknown_tool_format_is_not_guessed():
    with pytest.raises(SettingError, match="name the parser"):
        guess_reply_parser("{{ m.tool_calls }} <tool_call>\n<function=")

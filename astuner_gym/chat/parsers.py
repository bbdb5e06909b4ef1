"""What a policy's text says: thinking, visible text, and tool calls in a model family's format.

A policy's text is untrusted. Nothing in it is evaluated, every parser takes time linear in its
length, and a call that does not parse stays in the reply's text, flagged. The arguments of a call
are the characters that the policy wrote, never re-serialised, because a reply is recognised in a
later prompt by them.

Worked example (``HermesParser``)::

    <think>                                        thinking    "Add them."
    Add them.                                      text        "I add."
    </think>                                       tool_calls  add, '{"a":1,  "b":2}'

    I add.
    <tool_call>
    {"name": "add", "arguments": {"a":1,  "b":2}}
    </tool_call>
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from astuner_gym.chat.messages import ChatReply, ToolCall
from astuner_gym.errors import SettingError
from astuner_gym.task import JsonValue

MAX_NESTING = 64
"""JSON nested deeper is malformed. Without a limit of ours, whether deep JSON parses would depend
on how much of the interpreter's stack its caller had used."""

MAX_MALFORMED = 16
"""After so many malformed calls the rest of a reply is text. Each costs time up to the reply's
length (a JSON error counts lines), so without a limit a hostile reply takes quadratic time."""

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"

_CLOSING_LINE_END = re.compile(re.escape(THINK_CLOSE) + r"[ \t]*(?:\n|\Z)")
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Strings are matched whole, so that brackets inside them do not count. Only used on valid JSON.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')


class ReplyParser(Protocol):
    """Reads one completion's text, without its stop token."""

    def parse(self, text: str) -> ChatReply:
        """Return what the text says; any text is accepted."""
        ...


class TextParser:
    """For models without tools: everything after the thinking is text."""

    def parse(self, text: str) -> ChatReply:
        """Return thinking and text."""
        thinking, body = split_thinking(text)
        return ChatReply(text=body, thinking=thinking)


class HermesParser:
    """``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, as Qwen2.5 and Qwen3 write it."""

    def parse(self, text: str) -> ChatReply:
        """Return the reply; text before, between and after its calls is joined by newlines."""
        thinking, body = split_thinking(text)
        return _parse_marked(thinking, body, marker="<tool_call>", read=_read_hermes_call)


class MistralParser:
    """``[TOOL_CALLS] [{"name": …, "arguments": {…}}, …]`` or ``[TOOL_CALLS]name[ARGS]{…}``."""

    def parse(self, text: str) -> ChatReply:
        """Return the reply; a list with one bad call is malformed as a whole."""
        thinking, body = split_thinking(text)
        return _parse_marked(thinking, body, marker="[TOOL_CALLS]", read=_read_mistral_calls)


class Llama3Parser:
    """``{"name": …, "parameters": {…}}``, with or without ``<|python_tag|>`` before it.

    Several calls are separated by semicolons. Without the tag, the calls are the whole reply.
    """

    def parse(self, text: str) -> ChatReply:
        """Return the reply; text before the tag is kept."""
        thinking, body = split_thinking(text)
        calls = _read_llama3_calls(body)
        if calls is not None:
            return ChatReply(text="", thinking=thinking, tool_calls=calls)
        before, tag, after = body.partition("<|python_tag|>")
        calls = _read_llama3_calls(after)
        if calls is not None:
            return ChatReply(text=before.strip(), thinking=thinking, tool_calls=calls)
        malformed = bool(tag) or _resembles_llama3_call(body)
        return ChatReply(text=body, thinking=thinking, malformed_tool_call=malformed)


_PARSERS: Mapping[str, ReplyParser] = MappingProxyType(
    {
        "hermes": HermesParser(),
        "llama3": Llama3Parser(),
        "mistral": MistralParser(),
        "text": TextParser(),
    }
)


def reply_parser(name: str) -> ReplyParser:
    """Return a parser by its name: ``hermes``, ``llama3``, ``mistral`` or ``text``.

    Raises:
        SettingError: There is no parser of that name.
    """
    parser = _PARSERS.get(name)
    if parser is None:
        raise SettingError(
            f"a reply parser must be one of {', '.join(_PARSERS)}, got {name!r}; choose the one "
            "in whose format the model writes tool calls"
        )
    return parser


def guess_reply_parser(chat_template: str) -> str:
    """Return the name of the parser for the tool calls that a chat template writes.

    Raises:
        SettingError: The template writes tool calls, but in none of the known formats.
    """
    if "[TOOL_CALLS]" in chat_template:
        return "mistral"
    # GLM and Qwen3-Coder put XML, not JSON, between the same tags.
    tagged_xml = "<function=" in chat_template or "<arg_key>" in chat_template
    if "<tool_call>" in chat_template and not tagged_xml:
        return "hermes"
    if "<|start_header_id|>" in chat_template:
        return "llama3"
    if "tool_calls" in chat_template:
        raise SettingError(
            "the chat template must write tool calls in a known format to have its parser "
            f"guessed, and this one does not; name the parser, one of {', '.join(_PARSERS)} "
            "('text' if the model is not to call tools)"
        )
    return "text"


def split_thinking(text: str) -> tuple[str, str]:
    r"""Split a completion into its thinking and the rest.

    The text may lack the opening tag, where the prompt already held it; then the closing tag must
    end its line, which it cannot do inside the JSON of a tool call. Thinking that was opened in
    the text and never closed is all there is: an unfinished thought is no answer.

    Example: ``"<think>\nHm.\n</think>\n\nYes."`` gives ``("Hm.", "Yes.")``.
    """
    opened = text.lstrip()
    if opened.startswith(THINK_OPEN):
        thinking, _, rest = opened.removeprefix(THINK_OPEN).partition(THINK_CLOSE)
    elif close := _CLOSING_LINE_END.search(text):
        thinking, rest = text[: close.start()], text[close.end() :]
    else:
        return "", text
    return thinking.strip("\n"), rest.lstrip("\n")


def json_object(text: str) -> dict[str, JsonValue] | None:
    """Return the JSON object that the text is, or None if it is no object or nested too deep."""
    start = _skip_space(text, 0)
    found = _read_object(text, start)
    if found is None or _skip_space(text, found.stop) != len(text):
        return None
    return found.value


@dataclass(frozen=True, slots=True)
class _JsonObject:
    """A valid JSON object found in a text."""

    value: dict[str, JsonValue]
    stop: int
    """Where the text goes on after it."""


@dataclass(frozen=True, slots=True)
class _Calls:
    """Tool calls found in a text."""

    calls: tuple[ToolCall, ...]
    stop: int
    """Where the text goes on after them."""


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _read_object(text: str, start: int) -> _JsonObject | None:
    try:
        value, stop = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):  # ValueError also covers integers of too many digits
        return None
    if not isinstance(value, dict):
        return None
    # Nothing is nested deeper than it has opening brackets, which are counted faster.
    opened = text.count("{", start, stop) + text.count("[", start, stop)
    if opened > MAX_NESTING and _nesting(text, start, stop) > MAX_NESTING:
        return None
    return _JsonObject(value, stop)


def _nesting(text: str, start: int, stop: int) -> int:
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(text, start, stop):
        mark = match.group()
        if mark in ("{", "["):
            depth += 1
            deepest = max(deepest, depth)
        elif mark in ("}", "]"):
            depth -= 1
    return deepest


def _raw_members(text: str, start: int) -> dict[str, str]:
    """Return key -> characters of the value, for the valid, non-empty JSON object at ``start``."""
    members = {}
    position = start
    while text[position] != "}":  # at "{" or ","
        key, position = _DECODER.raw_decode(text, _skip_space(text, position + 1))
        value_start = _skip_space(text, _skip_space(text, position) + 1)
        _, value_stop = _DECODER.raw_decode(text, value_start)
        members[key] = text[value_start:value_stop]
        position = _skip_space(text, value_stop)
    return members


def _read_call(text: str, position: int, *, argument_keys: Sequence[str]) -> _Calls | None:
    """Read ``{"name": …, <one of argument_keys>: {…}}``; other members are ignored."""
    start = _skip_space(text, position)
    found = _read_object(text, start)
    if found is None:
        return None
    name = found.value.get("name")
    key = next((key for key in argument_keys if isinstance(found.value.get(key), dict)), None)
    if not isinstance(name, str) or not _is_name(name) or key is None:
        return None
    return _Calls((ToolCall(name, _raw_members(text, start)[key]),), found.stop)


def _is_name(name: str) -> bool:
    return bool(name) and _SURROGATE.search(name) is None


def _parse_marked(
    thinking: str, body: str, *, marker: str, read: Callable[[str, int], _Calls | None]
) -> ChatReply:
    """Take out the calls after each marker; ``read`` is given the position after the marker."""
    calls: list[ToolCall] = []
    pieces: list[str] = []
    malformed = 0
    piece_start = 0
    at = body.find(marker)
    while at >= 0 and malformed < MAX_MALFORMED:
        position = at + len(marker)
        found = read(body, position)
        if found is None:
            malformed += 1
        else:
            calls += found.calls
            pieces.append(body[piece_start:at])
            piece_start = position = found.stop
        at = body.find(marker, position)
    if not calls:
        return ChatReply(text=body, thinking=thinking, malformed_tool_call=malformed > 0)
    pieces.append(body[piece_start:])
    # White space around a call belongs to the format: a template writes its own there.
    text = "\n".join(stripped for piece in pieces if (stripped := piece.strip()))
    return ChatReply(
        text=text, thinking=thinking, tool_calls=tuple(calls), malformed_tool_call=malformed > 0
    )


def _read_hermes_call(text: str, position: int) -> _Calls | None:
    close = "</tool_call>"
    found = _read_call(text, position, argument_keys=("arguments",))
    if found is None:
        return None
    stop = _skip_space(text, found.stop)
    return _Calls(found.calls, stop + len(close)) if text.startswith(close, stop) else None


# [CALL_ID] precedes [ARGS] in some versions of the format.
_MISTRAL_NAME = re.compile(r"\s*([^\s\[\]{}]+)(?:\[CALL_ID\][^\s\[\]{}]*)?\[ARGS\]")


def _read_mistral_calls(text: str, position: int) -> _Calls | None:
    named = _MISTRAL_NAME.match(text, position)
    if named is not None:
        start = _skip_space(text, named.end())
        found = _read_object(text, start)
        if found is None or not _is_name(named[1]):
            return None
        return _Calls((ToolCall(named[1], text[start : found.stop]),), found.stop)
    position = _skip_space(text, position)
    if not text.startswith("[", position):
        return None
    return _read_calls(text, position + 1, argument_keys=("arguments",), separator=",", closing="]")


def _read_llama3_calls(section: str) -> tuple[ToolCall, ...] | None:
    keys = ("parameters", "arguments")
    found = _read_calls(section, 0, argument_keys=keys, separator=";", closing="")
    if found is None or _skip_space(section, found.stop) != len(section):
        return None
    return found.calls


def _resembles_llama3_call(section: str) -> bool:
    names = '"name"' in section and ('"parameters"' in section or '"arguments"' in section)
    return section.lstrip().startswith("{") and names


def _read_calls(
    text: str, position: int, *, argument_keys: Sequence[str], separator: str, closing: str
) -> _Calls | None:
    """Read one call or more, with a separator between them and a closing mark after them."""
    calls: list[ToolCall] = []
    while True:
        found = _read_call(text, position, argument_keys=argument_keys)
        if found is None:
            return None
        calls += found.calls
        position = _skip_space(text, found.stop)
        if not text.startswith(separator, position):
            break
        position += len(separator)
    if not text.startswith(closing, position):
        return None
    return _Calls(tuple(calls), position + len(closing))

"""Messages as text: a tokenizer's chat template, compiled once.

The text is the one that ``tokenizer.apply_chat_template`` gives, with one exception: a template
that asks for today's date gets a fixed one, because clock text in a prompt would make two runs
of one seed differ.

What a template cannot be given as it stands is translated: arguments become JSON objects where
they parse as such, and tool-call ids become nine characters, as Mistral's templates demand, by
their position in the conversation, so that they stay the same in every longer prompt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from astuner_gym.chat.messages import ChatMessage, ChatRole, ToolCall
from astuner_gym.chat.parsers import json_object
from astuner_gym.errors import SettingError
from astuner_gym.task import JsonValue
from astuner_rl.errors import RenderingError

if TYPE_CHECKING:
    from jinja2.nodes import Node
    from jinja2.parser import Parser
    from transformers import PreTrainedTokenizerFast

TEMPLATE_DATE = datetime(2024, 7, 26)
"""The day that ``strftime_now`` gives; Llama 3's templates fall back to it themselves."""


class ChatTemplate:
    """The chat template of a tokenizer, or its pair of templates without and with tools.

    Args:
        tokenizer: Brings template and special tokens.
        variables: Further variables of the template, such as ``enable_thinking``.

    Raises:
        SettingError: The tokenizer has no chat template, or one that does not compile.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, variables: Mapping[str, JsonValue] | None = None
    ) -> None:
        if tokenizer.chat_template is None:
            raise SettingError(
                "a tokenizer must have a chat template, and this one has none; choose an "
                "instruction-tuned model, or set tokenizer.chat_template"
            )
        environment = _environment()
        try:
            self._plain = environment.from_string(tokenizer.get_chat_template())
            self._with_tools = environment.from_string(tokenizer.get_chat_template(tools=[{}]))
        except (jinja2.TemplateSyntaxError, ValueError) as error:
            raise SettingError(
                f"a chat template must compile, and this one does not: {error}; mend "
                "tokenizer.chat_template"
            ) from error
        self._variables = {**tokenizer.special_tokens_map, **(variables or {})}

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Mapping[str, JsonValue]],
        *,
        add_generation_prompt: bool,
    ) -> str:
        """Return the conversation as text, without lone surrogates, which no tokenizer takes.

        Raises:
            RenderingError: The template refuses the conversation.
        """
        template = self._with_tools if tools else self._plain
        try:
            text = template.render(
                messages=_template_messages(messages),
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._variables,
            )
        except Exception as error:  # a template is foreign code: whatever it raises is a refusal
            roles = ", ".join(message.role for message in messages)
            raise RenderingError(
                f"a conversation must fit the model's chat template, which says: {error}; its "
                f"roles are [{roles}]; change the messages or tools that the agent sends (such "
                "as the order of roles, or one tool call a message), or use another template"
            ) from error
        return _without_lone_surrogates(text)


def _template_messages(messages: Sequence[ChatMessage]) -> list[dict[str, object]]:
    labels = _CallLabels()
    return [_template_message(message, labels) for message in messages]


def _template_message(message: ChatMessage, labels: _CallLabels) -> dict[str, object]:
    """Return a message as a template reads it; optional fields are absent rather than empty."""
    fields: dict[str, object] = {"role": message.role.value, "content": message.text}
    if message.thinking:
        fields["reasoning_content"] = message.thinking
    if message.tool_calls:
        fields["tool_calls"] = [
            {"type": "function", "id": labels.of_call(call), "function": _template_function(call)}
            for call in message.tool_calls
        ]
    if message.role is ChatRole.TOOL:
        fields["tool_call_id"] = labels.of_answer(message.tool_call_id)
    if message.name:
        fields["name"] = message.name
    return fields


def _template_function(call: ToolCall) -> dict[str, object]:
    arguments = json_object(call.arguments)
    return {
        "name": call.name,
        "arguments": call.arguments if arguments is None else arguments,
    }


class _CallLabels:
    """Tool-call ids as nine characters, in order: ``call00000``, ``call00001``, …"""

    def __init__(self) -> None:
        self._count = 0
        self._by_id: dict[str, str] = {}
        self._unanswered: list[str] = []

    def of_call(self, call: ToolCall) -> str:
        label = f"call{self._count:05d}"
        self._count += 1
        self._unanswered.append(label)
        if call.id:
            self._by_id[call.id] = label
        return label

    def of_answer(self, call_id: str) -> str:
        """Return the label of the call with this id, else of the first unanswered one."""
        first = self._unanswered[0] if self._unanswered else f"call{self._count:05d}"
        label = self._by_id.get(call_id, first)
        if label in self._unanswered:
            self._unanswered.remove(label)
        return label


def _without_lone_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _environment() -> jinja2.Environment:
    """Return the environment for which chat templates are written; templates are untrusted."""
    environment = _SandboxForDicts(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = TEMPLATE_DATE.strftime
    return environment


_DICT_ATTRIBUTES: Final = frozenset(dir(dict))


class _SandboxForDicts(ImmutableSandboxedEnvironment):
    """The same sandbox, faster where a template reads a member of a dict as ``message.role``."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return what a template's ``obj.attribute`` is."""
        # The sandbox asks for the attribute first, which raises an error for nearly every member.
        if type(obj) is dict and attribute in obj and attribute not in _DICT_ATTRIBUTES:
            return obj[attribute]
        return super().getattr(obj, attribute)


class _GenerationBlock(Extension):
    """``{% generation %}…{% endgeneration %}``, which marks what a policy writes: its content."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it as a set on the class

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON without HTML escapes, which jinja2's own filter adds."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)

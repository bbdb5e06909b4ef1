"""Python functions from the JSON schemas of tools, for what reads a schema off a function.

``transformers.utils.get_json_schema``, and with it a chat template, reads name, type hints and the
docstring's ``Args`` section; :func:`tool_function` makes a function from which it reads the schema
that there was. No text of the schema is evaluated.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from keyword import iskeyword
from typing import Any, Literal, TypeAlias, Union

from astuner_gym.errors import SettingError
from astuner_gym.task import JsonValue

CallTool: TypeAlias = Callable[[Any, str, Mapping[str, JsonValue]], str]

_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}
# At these words transformers takes a description to end.
_SECTION = re.compile(r"\b(Args|Returns|Raises|choices):", re.IGNORECASE)


def tool_function(tool: Mapping[str, Any], call_tool: CallTool) -> Callable[..., str]:
    """Return a method for a tool, which calls ``call_tool(self, name, arguments)``.

    Any arguments are passed on, those that the schema does not know included: to refuse them is
    the tool's own matter.

    Args:
        tool: Its schema in the OpenAI function format.
        call_tool: Does what the tool does.

    Raises:
        SettingError: Its name, or that of a parameter, is no name in Python.
    """
    function = tool["function"]
    name, parameters = function["name"], function.get("parameters") or {}
    properties: Mapping[str, Any] = parameters.get("properties") or {}
    names = (name, *properties)
    if not all(each.isidentifier() and not iskeyword(each) for each in names) or "self" in names:
        raise SettingError(
            "a tool and its parameters must have names that Python admits to become a function, "
            f"got the tool {name!r} with {list(properties)}; rename them"
        )

    def call(self: Any, /, **arguments: JsonValue) -> str:
        return call_tool(self, name, arguments)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = _docstring(function.get("description") or name, properties)
    call.__annotations__ = {key: _python_type(schema) for key, schema in properties.items()}
    required = parameters.get("required") or ()
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY),
            *(
                inspect.Parameter(
                    key,
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=call.__annotations__[key],
                    default=inspect.Parameter.empty if key in required else schema.get("default"),
                )
                for key, schema in properties.items()
            ),
        ]
    )
    return call


def _docstring(description: str, properties: Mapping[str, Any]) -> str:
    lines = [_SECTION.sub(r"\1", description)]
    if properties:
        lines += ["", "Args:"]
    for key, schema in properties.items():
        # On one line: a later one that begins with a word and a colon would be a parameter.
        text = " ".join((schema.get("description") or key).split())
        lines.append(f"    {key}: " + _SECTION.sub(r"\1", text))
    return "\n".join(lines)


def _python_type(schema: Mapping[str, Any]) -> Any:
    """Return the type hint for values of a schema; limits of their size have none."""
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    if "anyOf" in schema:
        return Union[tuple(map(_python_type, schema["anyOf"]))]  # noqa: UP007, they are a tuple
    kind = schema.get("type")
    if isinstance(kind, list):
        return Union[tuple(_TYPES[each] for each in kind)]  # noqa: UP007, they are a tuple
    if kind == "array" and "items" in schema:
        return list[_python_type(schema["items"])]  # type: ignore[misc]
    values = schema.get("additionalProperties")
    if kind == "object" and isinstance(values, Mapping):
        return dict[str, _python_type(values)]  # type: ignore[misc]
    return _TYPES.get(kind or "", Any)

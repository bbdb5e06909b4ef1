"""Functions from schemas: transformers reads the schema off the function that went into it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
from transformers.utils import get_json_schema

from astuner_gym.chat.tool_functions import tool_function
from astuner_gym.errors import SettingError


def schema(
    properties: Mapping[str, Any], *, required: list[str] | None = None, description: str = "Do it."
) -> dict[str, Any]:
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    function = {"name": "do", "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def record(self: object, name: str, arguments: Mapping[str, Any]) -> str:
    return f"{self} {name} {dict(arguments)}"


class Holder(str):
    """What the function becomes a method of."""


def method(tool: Mapping[str, Any]) -> Any:
    return tool_function(tool, record).__get__(Holder("holder"))


@pytest.mark.parametrize(
    "tool",
    [
        schema({}),
        schema({"a": {"type": "string", "description": "An a."}}, required=["a"]),
        schema({"a": {"type": "integer", "description": "Or not."}}),
        schema({"a": {"type": "string", "enum": ["x", "y"], "description": "Either."}}),
        schema({"a": {"type": "array", "items": {"type": "number"}, "description": "Many."}}),
        schema(
            {
                "a": {
                    "type": "object",
                    "additionalProperties": {"type": "boolean"},
                    "description": "By name.",
                },
                "名字": {"type": "string", "description": "任何文字。"},
            },
            required=["a", "名字"],
            description="First line.\nSecond line.",
        ),
        schema({"a": {"type": ["integer", "string"], "description": "Either type."}}),
    ],
)
def test_the_schema_comes_back(tool: dict[str, Any]) -> None:
    assert get_json_schema(method(tool)) == tool


def test_a_value_that_may_be_null_is_nullable() -> None:
    tool = schema({"a": {"anyOf": [{"type": "number"}, {"type": "null"}], "description": "One."}})
    read = get_json_schema(method(tool))["function"]["parameters"]["properties"]["a"]
    assert read == {"type": "number", "nullable": True, "description": "One."}


def test_words_that_end_a_docstrings_section_do_not_end_a_description() -> None:
    description = "Runs. Returns: a text. Args: none."
    tool = schema({"a": {"type": "string", "description": "One.\nb: two (choices: x)"}})
    tool["function"]["description"] = description
    read = get_json_schema(method(tool))["function"]
    assert read["description"] == "Runs. Returns a text. Args none."
    assert read["parameters"]["properties"] == {
        "a": {"type": "string", "description": "One. b: two (choices x)"}
    }


def test_missing_descriptions_are_the_names() -> None:
    tool = schema({"a": {"type": "string"}, "b": {"type": "string"}}, description="")
    read = get_json_schema(method(tool))["function"]
    assert read["description"] == "do"
    assert {
        key: value["description"] for key, value in read["parameters"]["properties"].items()
    } == {
        "a": "a",
        "b": "b",
    }


def test_a_call_passes_on_whatever_it_is_given() -> None:
    assert method(schema({}))(self=1, other="x") == "holder do {'self': 1, 'other': 'x'}"


def test_defaults_show_in_the_signature() -> None:
    tool = schema({"a": {"type": "integer", "default": 3}, "b": {"type": "string"}}, required=["b"])
    parameters = inspect.signature(method(tool)).parameters
    assert parameters["a"].default == 3
    assert parameters["b"].default is inspect.Parameter.empty


@pytest.mark.parametrize("name", ["a-b", "from", "self"])
def test_a_name_that_python_does_not_admit_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="rename them"):
        tool_function(schema({name: {"type": "string"}}), record)

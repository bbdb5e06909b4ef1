"""Settings written ``group.key=value``, as for training, in commands that need no Hydra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from astuner_gym.errors import SettingError

T = TypeVar("T")


def split_settings(
    arguments: Sequence[str], groups: Mapping[str, type]
) -> dict[str, dict[str, str]]:
    """Return the values as they are written, by group and key.

    Args:
        arguments: Such as ``judge.model=m``.
        groups: The dataclass of each group; that of ``""`` holds settings without a group.

    Raises:
        SettingError: An argument is no setting, or of none of the groups.
    """
    keys = known_settings(groups)
    values: dict[str, dict[str, str]] = {group: {} for group in groups}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise SettingError(f"settings are written key=value, got {argument!r}")
        if key not in keys:
            near = get_close_matches(key, keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}"
            raise SettingError(f"there is no setting {key}; {hint}")
        group, _, name = key.rpartition(".")
        values[group][name] = value
    return values


def known_settings(groups: Mapping[str, type]) -> list[str]:
    """Return the keys of all settings, in order."""
    return [
        f"{group}.{each.name}" if group else each.name
        for group, schema in groups.items()
        for each in fields(schema)
    ]


def make_settings(schema: type[T], values: Mapping[str, str], *, group: str) -> T:
    """Return a dataclass of settings from values as they are written.

    Raises:
        SettingError: A value is absent or of another type, or breaks a rule of the dataclass.
    """
    types = get_type_hints(schema)
    prefix = f"{group}." if group else ""
    read: dict[str, Any] = {}
    for each in _fields(schema):
        key = f"{prefix}{each.name}"
        if each.name in values:
            try:
                read[each.name] = TypeAdapter(types[each.name]).validate_strings(values[each.name])
            except ValidationError as error:
                raise SettingError(
                    f"{key} must be of type {types[each.name].__name__}, got "
                    f"{values[each.name]!r}; set {key}=<value>"
                ) from error
        elif each.default is MISSING and each.default_factory is MISSING:
            raise SettingError(f"{key} must be set; set {key}=<value>")
    return schema(**read)


def _fields(schema: type) -> tuple[Field[Any], ...]:
    return fields(schema)

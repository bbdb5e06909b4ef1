"""Settings as they may be shown: without what is secret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from astuner_gym.task import JsonValue

REDACTED: Final = "[redacted]"

_SECRET_NAME: Final = re.compile(
    r"(^|_)(api_?key|access_?key|private_?key|secret|password|passwd|credentials?|token)$",
    re.IGNORECASE,
)


def redact(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return a copy in which every set value with a secret's name is ``[redacted]``.

    ``judge.api_key``, ``hub_token`` and ``password`` are secrets by name; ``max_tokens`` is not.
    """
    return {name: _redacted(name, value) for name, value in settings.items()}


def _redacted(name: str, value: JsonValue) -> JsonValue:
    if _SECRET_NAME.search(name) and value:
        return REDACTED
    if isinstance(value, Mapping):
        return redact(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_redacted(name, item) for item in value]
    return value

"""The examples of docs/adapters.md, so that they are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

_DOCUMENT = Path(__file__).parents[2] / "docs" / "adapters.md"


def examples(heading: str) -> list[str]:
    """Return the code blocks below a heading."""
    _, _, rest = _DOCUMENT.read_text("utf-8").partition(f"\n## {heading}\n")
    section = rest.partition("\n## ")[0]
    return re.findall(r"```\w+\n(.*?)```", section, flags=re.DOTALL)


def changed(example: str, changes: dict[str, str]) -> str:
    """Return the example with what a test has to change; each change must find its place."""
    for old, new in changes.items():
        assert example.count(old) == 1, f"{old!r} must occur once in the example:\n{example}"
        example = example.replace(old, new)
    return example

"""Keeping the keys of servers out of messages, logs and what models are said to have said."""

from __future__ import annotations

from typing import Final

NO_KEY: Final = "none"
"""What is sent to a server for which there is no key."""
SHORTEST_SECRET: Final = 8
"""Characters; a shorter key, such as ``x``, is what servers without keys are given."""


def without_key(text: str, key: str) -> str:
    """Return a text without the key, which a server that refuses it may repeat.

    Example: ``sk-1234567`` is cut out of every text that holds it, ``x`` out of none.
    """
    return text if len(key) < SHORTEST_SECRET else text.replace(key, "[redacted]")

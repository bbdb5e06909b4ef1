"""The seam between a judge and the language model that it asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class JudgeModel(Protocol):
    """A model that answers questions about episodes: behind an address, or on this machine."""

    async def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        parse: Callable[[str], T],
        temperature: float | None = None,
    ) -> T:
        """Return the first usable answer, as ``parse`` reads it.

        Args:
            messages: Of the prompt, each with ``role`` and ``content``.
            parse: Reads an answer; raises ValueError, saying what it wants, for an unusable one.
            temperature: How the answer is drawn; None for the model's setting.

        Raises:
            JudgeError: No usable answer is to be had.
        """
        ...

    async def close(self) -> None:
        """Free what the model holds."""
        ...

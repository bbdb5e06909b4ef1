"""What an actor holds, made when it is first asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class MadeOnce(Generic[T]):
    """Makes something once; what keeps it from being made is raised to everybody who asks.

    Raised while an actor is made, it would reach the run as a text and not as itself.
    """

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._making: asyncio.Future[T] | None = None

    async def get(self) -> T:
        """Return it."""
        if self._making is None:
            self._making = asyncio.ensure_future(self._make())
        # Others wait for it too, who must not be cancelled with this one.
        return await asyncio.shield(self._making)

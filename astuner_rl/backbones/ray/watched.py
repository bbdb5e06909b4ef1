"""A training loop, and beside it somebody who looks after the actors that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from astuner_rl.backbones.loop import LoopState
from astuner_rl.backbones.ray.answers import Watch


class Backbone(Protocol):
    """What runs the steps."""

    async def run(self, state: LoopState) -> LoopState:
        """Train from ``state`` to the last step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedBackbone:
    """Runs a backbone until it is done, or until an actor is lost."""

    backbone: Backbone
    watches: Sequence[Watch]

    async def run(self, state: LoopState) -> LoopState:
        """Train from ``state`` to the last step.

        Raises:
            LostProcessError: An actor is lost that cannot be started anew.
        """
        try:
            async with asyncio.TaskGroup() as group:
                watching = [group.create_task(watch()) for watch in self.watches]
                state = await self.backbone.run(state)
                for task in watching:
                    task.cancel()
        except BaseExceptionGroup as failures:
            # The first failure cancelled the rest; it says what went wrong.
            raise failures.exceptions[0] from failures
        return state

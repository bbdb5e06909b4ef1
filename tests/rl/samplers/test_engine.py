"""What becomes of requests when the thread that answers them breaks."""

from __future__ import annotations

from typing import Any, cast

import pytest

from astuner_rl.errors import BrokenSamplerError, SamplerError
from astuner_rl.samplers.batching import ContinuousBatcher, Request
from astuner_rl.samplers.engine import Engine
from astuner_rl.types import Completion, EpisodeKey


class Breaking:
    """A batcher that has no memory for its first step."""

    busy = False

    def add(self, request: Request) -> None:
        self.busy = True

    def step(self) -> list[tuple[Request, Completion]]:
        raise MemoryError("no room")

    def cancel(self, request: Request) -> None:
        pass

    def release(self, episode: EpisodeKey) -> None:
        pass


def test_an_engine_that_breaks_says_so_to_all_who_ask() -> None:
    engine = Engine(cast(ContinuousBatcher, Breaking()))
    request: Any = object()
    with pytest.raises(BrokenSamplerError, match="the sampler broke and has stopped: MemoryError"):
        engine.submit(request).result(timeout=60)
    with pytest.raises(BrokenSamplerError, match="MemoryError"):
        engine.submit(request)
    engine.close()


def test_an_engine_that_was_closed_is_not_broken() -> None:
    engine = Engine(cast(ContinuousBatcher, Breaking()))
    engine.close()
    with pytest.raises(SamplerError, match="was closed") as refused:
        engine.require_alive()
    assert type(refused.value) is SamplerError

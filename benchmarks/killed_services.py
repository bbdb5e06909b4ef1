"""Episodes over a pool of services of which one is killed now and then: what becomes of each.

An episode is tried again when it fails by name, as the rollout does; its reward must be the one
that it has where nothing is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from astuner_gym.errors import WorkflowError
from astuner_gym.services import keeper
from astuner_gym.services.pool import Lease, ServicePool
from benchmarks.victims import Process, descendants

ATTEMPTS = 10
"""How often an episode is tried, at most."""


@dataclass(slots=True)
class Fates:
    """What became of the episodes."""

    finished: int = 0
    scored_wrongly: int = 0
    dropped: int = 0
    """That failed in every attempt."""
    hanging: int = 0
    """That did not come to an end in time."""
    failed_attempts: int = 0
    """That ended with a named failure, of the service or because of it."""
    kills: int = 0
    seconds: float = 0.0


class TimedPool(ServicePool):
    """A pool that adds up how long its leases take to begin and to end."""

    overhead_s: float = 0.0

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """Do as a pool does."""
        start = time.perf_counter()
        async with super().lease() as lease:
            self.overhead_s += time.perf_counter() - start
            yield lease
            start = time.perf_counter()
        self.overhead_s += time.perf_counter() - start


async def play_under_kills(
    play: Callable[[int], Awaitable[float]],
    *,
    expected: Callable[[int], float],
    episodes: int,
    concurrency: int,
    kill_every: int,
    seed: int,
    deadline_s: float,
) -> Fates:
    """Play episodes, several at a time, and kill a service in the course of every so many.

    Args:
        play: Plays the episode of an index and returns its reward.
        expected: The reward that it has when nothing is killed.
        episodes: How many there are.
        concurrency: How many are played at a time.
        kill_every: After how many episodes that have begun a service is killed; 0 for never.
        seed: Of which service is killed, and when.
        deadline_s: Seconds after which an episode counts as hanging.
    """
    fates = Fates()
    draws = Random(seed)
    begun = 0
    places = asyncio.Semaphore(concurrency)
    lasted_s = [0.1]
    killings: list[asyncio.Task[None]] = []

    async def kill() -> None:
        # In the course of an episode: somewhere in the time that one has taken so far.
        await asyncio.sleep(draws.random() * sum(lasted_s) / len(lasted_s))
        while not (running := servers()):  # all are being started anew
            await asyncio.sleep(0.01)
        os.kill(draws.choice(running).pid, signal.SIGKILL)
        fates.kills += 1

    async def attempt(index: int) -> float | None:
        for _ in range(ATTEMPTS):
            start = time.perf_counter()
            try:
                reward = await play(index)
            except WorkflowError:
                fates.failed_attempts += 1
                continue
            lasted_s.append(time.perf_counter() - start)
            return reward
        return None

    async def episode(index: int) -> None:
        nonlocal begun
        async with places:
            begun += 1
            if kill_every and begun % kill_every == 0:
                killings.append(asyncio.create_task(kill()))
            try:
                async with asyncio.timeout(deadline_s):
                    reward = await attempt(index)
            except TimeoutError:
                fates.hanging += 1
                return
        if reward is None:
            fates.dropped += 1
            return
        fates.finished += 1
        fates.scored_wrongly += reward != expected(index)

    start = time.perf_counter()
    await asyncio.gather(*(episode(index) for index in range(episodes)))
    await asyncio.gather(*killings)
    fates.seconds = time.perf_counter() - start
    return fates


def servers() -> list[Process]:
    """Return the services that this process has started: the children of its keepers."""
    below = descendants(os.getpid())
    keepers = [process.pid for process, title in below.items() if keeper.__file__ in title]
    held = {pid for each in keepers for pid in _children(each)}
    return sorted(process for process in below if process.pid in held)


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    except OSError:  # it has ended
        return []
    return [int(child) for child in listed.split()]


@dataclass(slots=True)
class Started:
    """Every process that this one has been seen to have below it, and had not before."""

    before: frozenset[Process] = field(default_factory=lambda: frozenset(descendants(os.getpid())))
    seen: set[Process] = field(default_factory=set)

    async def watch(self, *, pause_s: float = 0.2) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.seen |= descendants(os.getpid()).keys() - self.before
            await asyncio.sleep(pause_s)

    def left(self) -> int:
        """Return how many of them are still alive."""
        return sum(process.alive for process in self.seen)

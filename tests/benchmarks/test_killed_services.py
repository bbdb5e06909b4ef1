"""The figures of services that are killed tell a pool that holds from one that does not."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import httpx

from astuner_gym.errors import ServiceLostError
from astuner_gym.services.command import ServiceCommand
from benchmarks.killed_services import Fates, Started, TimedPool, play_under_kills, servers

SERVICE = Path(__file__).parents[1] / "gym/services/counting_service.py"
COMMAND = ServiceCommand(argv=[sys.executable, "-S", str(SERVICE), "{port}"])


def fates_of(outcomes: dict[int, list[float | Exception]], *, deadline_s: float = 60.0) -> Fates:
    """What becomes of episodes whose attempts end so; one without an outcome hangs."""

    async def play(index: int) -> float:
        if not outcomes[index]:
            await asyncio.Event().wait()
        outcome = outcomes[index].pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return asyncio.run(
        play_under_kills(
            play,
            expected=lambda index: 1.0,
            episodes=len(outcomes),
            concurrency=2,
            kill_every=0,
            seed=0,
            deadline_s=deadline_s,
        )
    )


def test_each_episode_has_its_fate() -> None:
    lost = ServiceLostError("killed")
    fates = fates_of({0: [1.0], 1: [lost, 1.0], 2: [0.5], 3: [lost] * 10, 4: []}, deadline_s=0.2)
    assert (fates.finished, fates.scored_wrongly) == (3, 1)
    assert (fates.dropped, fates.hanging) == (1, 1)
    assert (fates.failed_attempts, fates.kills) == (11, 0)


def test_real_services_are_killed_and_no_episode_is_scored_wrongly(tmp_path: Path) -> None:
    async def run() -> tuple[Fates, Started, float]:
        started = Started()
        async with TimedPool(COMMAND, 2, tmp_path) as pool, httpx.AsyncClient() as client:
            assert len(servers()) == 2

            async def play(index: int) -> float:
                """A workflow that goes on, with a wrong reward, when its service is gone."""
                reward = 0.0
                async with pool.lease() as lease:
                    with suppress(httpx.HTTPError):
                        for _ in range(2):
                            await client.post(f"{lease.base_url}/count", headers=lease.headers)
                        reward = 1.0
                return reward

            watching = asyncio.create_task(started.watch(pause_s=0.01))
            fates = await play_under_kills(
                play,
                expected=lambda index: 1.0,
                episodes=30,
                concurrency=4,
                kill_every=5,
                seed=0,
                deadline_s=60.0,
            )
            watching.cancel()
        return fates, started, pool.overhead_s

    fates, started, overhead_s = asyncio.run(run())
    assert fates.kills == 6
    assert (fates.finished, fates.scored_wrongly) == (30, 0)
    assert (fates.dropped, fates.hanging) == (0, 0)
    assert len(started.seen) > 4  # two services with their keepers, and others in their place
    assert started.left() == 0
    assert overhead_s > 0.0

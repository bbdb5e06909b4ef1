"""The thread in which a pool's services are looked after, whatever event loop leases are taken on.

It also is the one whose end tells the keepers that the services are no longer wanted: the kernel
takes the thread that started a child for its parent.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from astuner_gym.errors import ServiceError
from astuner_gym.services.service import Service
from astuner_gym.services.supervision import Supervision

T = TypeVar("T")


class PoolThread:
    """Runs a supervision on an event loop of its own."""

    def __init__(self, supervision: Callable[[], Supervision], *, name: str) -> None:
        """Start the thread; the supervision is made in it."""
        self._make = supervision
        self._lock = threading.Lock()
        self._stopped = False
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Supervision]] = Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._loop, self._stop, self.supervision = self._ready.result()

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the supervision and return what it returns.

        Raises:
            ServiceError: The thread has been stopped.
        """
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise ServiceError("the service pool is closed")
            running = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return await asyncio.wrap_future(running)

    async def take(self) -> tuple[Service, str]:
        """Take a service and its token; if the caller is cancelled meanwhile, nobody holds it.

        Raises:
            ServiceStartError: No service can be started.
            ServiceError: The thread has been stopped.
        """
        handover = _Handover(self.supervision)
        try:
            return await self.call(handover.take())
        except asyncio.CancelledError:
            self.soon(handover.withdraw)
            raise

    def soon(self, function: Callable[[], None]) -> None:
        """Call a function in the thread; once it has been stopped there is nothing left to do."""
        with self._lock:
            if not self._stopped:
                self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """End the services and then the thread."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._supervise())

    async def _supervise(self) -> None:
        stop = asyncio.Event()
        supervision = self._make()
        self._ready.set_result((asyncio.get_running_loop(), stop, supervision))
        await supervision.run(stop)
        # Whoever waits for an answer of a service that is gone shall learn it.
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*calls, return_exceptions=True)


class _Handover:
    """A service on its way to another thread, which may have stopped waiting for it."""

    def __init__(self, supervision: Supervision) -> None:
        self._supervision = supervision
        self._taken: Service | None = None
        self._withdrawn = False

    async def take(self) -> tuple[Service, str]:
        service, token = await self._supervision.take()
        self._taken = service
        if self._withdrawn:
            service.retire()
        return service, token

    def withdraw(self) -> None:
        self._withdrawn = True
        if self._taken is not None:
            self._taken.retire()

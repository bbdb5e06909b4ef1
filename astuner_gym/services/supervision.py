"""Keeps a number of services running, on one event loop, and says which one is free."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from pathlib import Path

from astuner_gym.errors import ServiceError, ServiceStartError
from astuner_gym.services.command import ServiceCommand
from astuner_gym.services.service import Patience, Service

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
"""Before a service is started again that failed, doubled each time."""
_FAILURES = 3
"""In a row, after which a service counts as one that cannot be started, though it is tried."""


class Supervision:
    """Starts services, starts those anew that ended, and hands them out one by one."""

    def __init__(
        self,
        command: ServiceCommand,
        *,
        size: int,
        log_folder: Path,
        name: str,
        patience: Patience,
    ) -> None:
        """Start nothing yet; all methods must be called on the loop that runs :meth:`run`.

        Args:
            command: How each service is started.
            size: How many there are.
            log_folder: Existing folder where each has its log, ``<name>-<i>.log``.
            name: Of the services, in the logs' names.
            patience: How long a service is waited for.
        """
        self._command = command
        self._size = size
        self._log_folder = log_folder
        self._name = name
        self._patience = patience
        self._idle: deque[Service] = deque()
        self._running: dict[int, Service] = {}
        self._failing: dict[int, ServiceStartError] = {}
        """By the service's number, why it could not be started, many times in a row."""
        self._closing = False
        self._changed = asyncio.Condition()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the services running until ``stop`` is set; returns when all are gone."""
        keeping = [asyncio.create_task(self._keep(number)) for number in range(self._size)]
        try:
            await stop.wait()
        finally:
            self._closing = True
            await self._announce()
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def all_ready(self) -> None:
        """Wait until every service is ready.

        Raises:
            ServiceStartError: One cannot be started.
            ServiceError: The services are being ended.
        """
        await self._until(lambda: len(self._running) == self._size, hopeless=1)

    async def take(self) -> tuple[Service, str]:
        """Wait for a service that is free and answers; returns it with a token that it takes.

        Raises:
            ServiceStartError: No service can be started.
            ServiceError: The services are being ended.
        """
        while True:
            await self._until(lambda: bool(self._idle), hopeless=self._size)
            service = self._idle.popleft()
            token = secrets.token_urlsafe()
            admitted = False
            try:
                admitted = await service.admit(token)
            finally:
                if not admitted:
                    service.retire()
            if admitted:
                service.leases += 1
                return service, token

    async def give_back(self, service: Service, token: str, *, reusable: bool) -> bool:
        """End a lease, and let the next one have the service; returns whether it still answers."""
        answers = await service.answers(token)
        if answers and reusable:
            await service.shut_out(token)
            self._idle.append(service)
            await self._announce()
        else:
            service.retire()
        return answers

    async def _keep(self, number: int) -> None:
        try:
            await self._keep_starting(number)
        except Exception as error:  # a user's probe may raise anything; whoever waits is told
            failure = ServiceStartError(f"a service cannot be asked whether it is ready: {error!r}")
            failure.__cause__ = error
            self._failing[number] = failure
            await self._announce()

    async def _keep_starting(self, number: int) -> None:
        log = self._log_folder / f"{self._name}-{number}.log"
        failures = 0
        while True:
            try:
                service = await Service.start(self._command, log=log, patience=self._patience)
            except ServiceStartError as error:
                failures += 1
                failure = error
            else:
                self._running[number] = service
                self._idle.append(service)
                await self._announce()
                status = await self._attend(service)
                del self._running[number]
                failures = 0 if service.leases else failures + 1
                failure = ServiceStartError(
                    f"a service must live until it is leased, and one ended with {status} before; "
                    f"its log is {log}"
                )
            if failures >= _FAILURES:
                self._failing[number] = failure
                await self._announce()
            elif failures == 0:
                self._failing.pop(number, None)
                continue
            await asyncio.sleep(min(_FIRST_PAUSE_S * 2**failures, _LONGEST_PAUSE_S))

    async def _attend(self, service: Service) -> int:
        """Wait for a service's end and see that nothing of it is left; returns its status."""
        try:
            return await service.ended()
        finally:
            if service in self._idle:
                self._idle.remove(service)
            await service.end()

    async def _until(self, come: Callable[[], bool], *, hopeless: int) -> None:
        """Wait for a condition; ``hopeless`` services that cannot be started are too many.

        Raises:
            ServiceStartError: So many cannot be started.
            ServiceError: The services are being ended.
        """
        async with self._changed:
            await self._changed.wait_for(
                lambda: come() or self._closing or len(self._without_hope()) >= hopeless
            )
        if self._closing:
            raise ServiceError("the service pool is closed")
        if not come():
            raise self._without_hope()[0]

    def _without_hope(self) -> list[ServiceStartError]:
        """Return why services cannot be started; one that runs at last is none of them."""
        return [failure for number, failure in self._failing.items() if number not in self._running]

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()

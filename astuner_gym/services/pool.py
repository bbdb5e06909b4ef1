"""A pool of supervised services, each leased to one episode at a time.

::

    async with ServicePool(command, size=4, log_folder=folder) as pool:
        async with pool.lease() as lease:
            await client.post(f"{lease.base_url}/reset", headers=lease.headers)

A service that ends is started anew, in another process and on another port, and never takes up what
its predecessor left: an episode that held it fails with ``ServiceLostError``, even if the workflow
went on as if nothing had happened, and whoever runs the episodes may run it again.
"""

from __future__ import annotations

import asyncio
import atexit
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from astuner_gym.errors import ServiceError, ServiceLostError, SettingError
from astuner_gym.services.command import ServiceCommand
from astuner_gym.services.pool_thread import PoolThread
from astuner_gym.services.service import Patience, Service
from astuner_gym.services.supervision import Supervision


class Lease:
    """An episode's hold on a service."""

    def __init__(self, service: Service, token: str) -> None:
        """Hold a service that takes the token."""
        self.base_url = service.base_url
        """Such as ``http://127.0.0.1:40123``."""
        self.token = token
        """What the service must be sent, and no other holder has."""
        self.reusable = True
        """Whether another episode may have the service once this lease has ended well."""
        self.service = service

    @property
    def headers(self) -> dict[str, str]:
        """The token as HTTP headers."""
        return {"Authorization": f"Bearer {self.token}"}

    def discard(self) -> None:
        """Have the service replaced after this lease."""
        self.reusable = False

    def check(self) -> None:
        """Do nothing while the service runs.

        Raises:
            ServiceLostError: It has ended.
        """
        if not self.service.running:
            raise self.lost()

    def lost(self) -> ServiceLostError:
        """Return the failure of an episode whose service is gone."""
        return ServiceLostError(
            f"the service at {self.base_url} ended or stopped answering during an episode; "
            f"its log is {self.service.log}"
        )


class ServicePool:
    """Keeps ``size`` services running and leases them.

    The services are looked after in a thread of the pool's own, so leases may be taken from any
    event loop. They start with the first lease, or with ``async with``. They end with
    :meth:`close`, with the interpreter, and if this process is killed.

    Leases are waited for as long as it takes, so an episode must not hold one while it waits for
    another episode that needs one. Where many episodes are stepped in turn each waits for all
    others: ``size`` must be at least their number.
    """

    def __init__(
        self,
        command: ServiceCommand,
        size: int,
        log_folder: Path | None = None,
        *,
        name: str = "service",
        patience: Patience | None = None,
    ) -> None:
        """Make the pool; nothing is started yet.

        Args:
            command: How each service is started.
            size: How many there are.
            log_folder: Where each has its log, ``<name>-<i>.log``; None for what :meth:`log_to`
                names, or without it for a temporary folder, which stays.
            name: Of the services, in the logs' names.
            patience: How long a service is waited for.

        Raises:
            SettingError: ``size`` is not positive.
        """
        if size < 1:
            raise SettingError(f"size of a service pool must be 1 or more, got {size}")
        self.size = size
        self._command = command
        self._log_folder = log_folder
        self._name = name
        self._patience = patience or Patience()
        self._lock = threading.Lock()
        self._thread: PoolThread | None = None
        self._closed = False

    def log_to(self, folder: Path) -> None:
        """Have the logs written to a folder, unless the pool was made with another.

        Raises:
            ServiceError: The services have been started.
        """
        with self._lock:
            if self._log_folder is not None:
                return
            if self._thread is not None:
                raise ServiceError(
                    f"logs must be given a folder before services start, got {folder} afterwards"
                )
            self._log_folder = folder

    async def __aenter__(self) -> Self:
        """Start all services and wait until each is ready.

        Raises:
            ServiceStartError: One cannot be started.
        """
        thread = self._started()
        try:
            await thread.call(thread.supervision.all_ready())
        except BaseException:  # a cancellation, too, must leave no service behind
            await asyncio.to_thread(self.close)
            raise
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all services."""
        await asyncio.to_thread(self.close)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """Hold a service for an episode: wait for one, use it, give it back.

        The next episode gets the same service if the block ends without an exception and the
        service still answers. After any exception it is replaced, since a request of the block may
        be under way in it: raise behind the block what does not concern the service.

        Raises:
            ServiceLostError: It ended or stopped answering during the block.
            ServiceStartError: No service can be started.
            ServiceError: The pool is closed.
        """
        thread = self._started()
        supervision = thread.supervision
        lease = Lease(*await thread.take())
        answers = False
        done = False
        try:
            yield lease
            give_back = supervision.give_back(lease.service, lease.token, reusable=lease.reusable)
            answers = await thread.call(give_back)
            done = True
        except Exception as error:  # whatever the block raised may be what a lost service led to
            if not await thread.call(lease.service.answers(lease.token)):
                raise lease.lost() from error
            raise
        finally:
            if not done:
                thread.soon(lease.service.retire)
        if not answers:
            raise lease.lost()

    def close(self) -> None:
        """End all services and wait until they, and what they have started, are gone."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            atexit.unregister(self.close)
            thread.stop()

    def _started(self) -> PoolThread:
        with self._lock:
            if self._closed:
                raise ServiceError("the service pool is closed; make another one")
            if self._thread is None:
                folder = self._log_folder or Path(tempfile.mkdtemp(prefix="astuner-logs-"))
                folder.mkdir(parents=True, exist_ok=True)
                self._thread = PoolThread(
                    lambda: Supervision(
                        self._command,
                        size=self.size,
                        log_folder=folder,
                        name=self._name,
                        patience=self._patience,
                    ),
                    name=f"services {self._name}",
                )
                atexit.register(self.close)
            return self._thread

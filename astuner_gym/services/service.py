"""One service: a child process that is started, asked, handed from lease to lease, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from astuner_gym.errors import ServiceStartError
from astuner_gym.services import keeper
from astuner_gym.services.command import FOLDER, PORT, ServiceCommand

_GRACE_S = 2.0
"""How long a service may tidy up after SIGTERM before it is killed."""
_SHOWN_OF_LOG = 1000
"""Bytes of a log that a message shows."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.25
"""Between two questions to a service that is not ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a service is waited for."""

    start_s: float = 120.0
    """From its start until it is ready."""
    answer_s: float = 5.0
    """For the answer to a probe of a service that was ready before."""


class Service:
    """A running service. All methods belong to the event loop that started it."""

    def __init__(
        self,
        command: ServiceCommand,
        process: subprocess.Popen[bytes],
        *,
        base_url: str,
        held: socket.socket,
        pidfd: int,
        tokens: int,
        folder: Path | None,
        log: Path,
        patience: Patience,
    ) -> None:
        """Hold a process that :meth:`start` has started.

        Args:
            command: What was started.
            process: The keeper of the service.
            base_url: Where the service listens.
            held: Keeps the port from being given to another program.
            pidfd: File descriptor of the keeper, whose number may be another's once it has ended.
            tokens: File descriptor of the service's input, which is closed to end it.
            folder: Removed when it has ended; None if it has none of its own.
            log: What the service writes.
            patience: How long it is waited for.
        """
        self.base_url = base_url
        self.log = log
        self.leases = 0
        """How many have begun."""
        self._command = command
        self._process = process
        self._held = held
        self._pidfd = pidfd
        self._gone = False
        self._refuses = False
        """Whether it refuses tokens that it was not given."""
        self._tokens: int | None = tokens
        self._folder = folder
        self._patience = patience
        # By itself asyncio would have a thread wait for each process.
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(pidfd, self._reap)

    @classmethod
    async def start(cls, command: ServiceCommand, *, log: Path, patience: Patience) -> Service:
        """Start a service and wait until it is ready.

        Args:
            command: What to start.
            log: File that the service's output is appended to.
            patience: How long to wait.

        Raises:
            ServiceStartError: It cannot be started, ended, or was not ready in time.
        """
        with contextlib.ExitStack() as opened:
            try:
                held, port = _held_port()
                opened.callback(held.close)
                folder = _own_folder() if any(FOLDER in each for each in command.argv) else None
                opened.callback(_remove, folder)
                lines, tokens = os.pipe()
                opened.callback(os.close, tokens)
                os.set_blocking(tokens, False)
                argv = [
                    argument.replace(PORT, str(port)).replace(FOLDER, str(folder))
                    for argument in command.argv
                ]
                with os.fdopen(lines, "rb") as stdin, log.open("ab") as output:
                    process = subprocess.Popen(
                        [
                            *[sys.executable, "-I", "-S", keeper.__file__],
                            *[str(os.getpid()), str(_GRACE_S), str(folder or ""), *argv],
                        ],
                        stdin=stdin,
                        stdout=output,
                        stderr=output,
                        cwd=command.cwd,
                        env=dict(command.env),
                        start_new_session=True,
                    )
                pidfd = os.pidfd_open(process.pid)
            except OSError as error:
                raise ServiceStartError(f"cannot start {[*command.argv]}: {error}") from error
            opened.pop_all()
        service = cls(
            command,
            process,
            base_url=f"http://127.0.0.1:{port}",
            held=held,
            pidfd=pidfd,
            tokens=tokens,
            folder=folder,
            log=log,
            patience=patience,
        )
        try:
            ready = await service.admit(secrets.token_urlsafe(), within_s=patience.start_s)
            service._refuses = ready and not await service.answers(secrets.token_urlsafe())
        except BaseException:  # a cancellation, or whatever a user's probe raised
            await service.end()
            raise
        if not ready:
            ended = not service.running
            await service.end()
            raise ServiceStartError(
                f"a service must be ready within {patience.start_s:g} s, and {argv} "
                + (f"ended with {process.returncode}" if ended else "was not")
                + f"; its log, {log}, ends with\n{_end_of(log)}"
            )
        return service

    @property
    def running(self) -> bool:
        """Whether its process is known to run."""
        return self._process.poll() is None and self._tokens is not None

    async def admit(self, token: str, *, within_s: float | None = None) -> bool:
        """Let ``token`` count in place of the one before; returns whether the service takes it.

        Args:
            token: Of the lease that begins.
            within_s: How long to wait; as long as for any answer if None.
        """
        self._send(token)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._patience.answer_s if within_s is None else within_s)
        pause_s = _FIRST_PAUSE_S
        while self.running and loop.time() < deadline:
            if await self.answers(token):
                return True
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return False

    async def answers(self, token: str) -> bool:
        """Return whether the service runs and serves the holder of ``token``."""
        try:
            async with asyncio.timeout(self._patience.answer_s):
                answered = await self._command.ready(self.base_url, token=token)
        except (OSError, TimeoutError):
            return False
        # Another program may have been given the port of a service that has ended.
        return answered and self.running

    async def shut_out(self, token: str) -> None:
        """Let no token count; returns when ``token``, which did, is refused.

        One that hangs, or never refuses, is found out when the next token is to be admitted.
        """
        self._send("")
        pause_s = _FIRST_PAUSE_S
        deadline = asyncio.get_running_loop().time() + self._patience.answer_s
        while self._refuses and asyncio.get_running_loop().time() < deadline:
            if not await self.answers(token):
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def retire(self) -> None:
        """Have the service ended, without waiting for it."""
        if self._tokens is not None:
            os.close(self._tokens)
            self._tokens = None
            # A process that this one has forked may hold the same pipe, which then stays open.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    async def ended(self) -> int:
        """Wait until the service, and all that it has started, is gone; returns its status."""
        return await asyncio.shield(self._status)

    async def end(self) -> int:
        """End the service and remove its folder; returns its exit status."""
        self.retire()
        cancelled = False
        while not self._status.done():
            try:
                await asyncio.wait([self._status])
            except asyncio.CancelledError:
                cancelled = True  # and gets no rest until the service has ended
        if not self._gone:
            self._gone = True
            self._held.close()
            os.close(self._pidfd)
            _remove(self._folder)  # a keeper that was killed has left it
        if cancelled:
            raise asyncio.CancelledError
        return self._status.result()

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._status.set_result(self._process.wait())

    def _send(self, token: str) -> None:
        if self._tokens is None:
            return
        # It reads no tokens, or has ended: the next probe will show.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._tokens, f"{token}\n".encode("ascii"))


def _end_of(log: Path) -> str:
    with log.open("rb") as lines:
        lines.seek(max(0, log.stat().st_size - _SHOWN_OF_LOG))
        return lines.read().decode(errors="replace")


def _held_port() -> tuple[socket.socket, int]:
    """Return a socket that holds a free port, and the port.

    While it is open the kernel gives the port to nobody who asks for any, and servers, which bind
    with ``SO_REUSEADDR``, can still listen on it.
    """
    held = socket.socket()
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    except OSError:
        held.close()
        raise
    return held, port


def _own_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="astuner-service-"))


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)

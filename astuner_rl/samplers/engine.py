"""The thread in which a batcher runs, and the safe way into it from other threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

import torch

from astuner_rl.errors import BrokenSamplerError, NonFiniteLogitsError, SamplerError

if TYPE_CHECKING:
    from astuner_rl.samplers.batching import ContinuousBatcher, Request
    from astuner_rl.types import Completion, EpisodeKey


class Engine:
    """Steps a batcher in its own thread while there is work, and sleeps otherwise.

    The thread has one intra-op thread, since with more results would not be exact. All methods may
    be called from any thread. If the batcher raises, the engine is dead: whatever waits fails with
    ``BrokenSamplerError``, or ``NonFiniteLogitsError`` if the weights are to blame, and so does
    whatever comes later. Once it is closed, that is ``SamplerError``.
    """

    def __init__(self, batcher: ContinuousBatcher) -> None:
        self._batcher = batcher
        self._started = threading.Event()
        self._changed = threading.Condition()
        # The three below are guarded by the condition.
        self._commands: list[Callable[[], None]] = []
        self._closing = False
        self._failure: SamplerError | None = None
        # Only the engine's thread touches the futures of requests.
        self._futures: dict[Request, Future[Completion]] = {}
        self._thread = threading.Thread(target=self._run, name="astuner-sampler", daemon=True)
        # torch.set_num_threads sets the calling thread's number and the one that threads started
        # later begin with; the engine's call must leave the latter as it was.
        others = torch.get_num_threads()
        self._thread.start()
        self._started.wait()
        torch.set_num_threads(others)

    def require_alive(self) -> None:
        """Raise what the engine ended with, ``SamplerError`` if it was closed."""
        with self._changed:
            self._require_alive()

    def submit(self, request: Request) -> Future[Completion]:
        """Queue a request; its future cannot be cancelled, use ``cancel``."""
        future: Future[Completion] = Future()
        future.set_running_or_notify_cancel()

        def add() -> None:
            self._futures[request] = future
            self._batcher.add(request)

        self._command(add)
        return future

    def cancel(self, request: Request) -> None:
        """Free a request's slot, if it still has one; its future is never resolved."""

        def cancel() -> None:
            if self._futures.pop(request, None) is not None:
                self._batcher.cancel(request)

        self._command_if_alive(cancel)

    def release(self, episode: EpisodeKey) -> None:
        """Let the cached tokens of an episode go first when room is needed."""
        self._command_if_alive(lambda: self._batcher.release(episode))

    def call(self, action: Callable[[ContinuousBatcher], None]) -> Future[None]:
        """Run an action on the batcher between two steps; what it raises goes to the future."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()

        def run() -> None:
            try:
                action(self._batcher)
            # The caller awaits the future, and the batcher goes on.
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(None)

        self._command(run)
        return future

    def close(self) -> None:
        """Fail every unfinished request and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _command(self, command: Callable[[], None]) -> None:
        with self._changed:
            self._require_alive()
            self._commands.append(command)
            self._changed.notify()

    def _require_alive(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(str(self._failure)) from self._failure
        if self._closing:
            raise SamplerError("the sampler is closed; make a new one to go on")

    def _command_if_alive(self, command: Callable[[], None]) -> None:
        """Command what is needless once the engine has ended."""
        with self._changed:
            if self._failure is None and not self._closing:
                self._commands.append(command)
                self._changed.notify()

    def _run(self) -> None:
        # Asked for first, since the first question in a thread sets its number to the default that
        # others choose, and would undo what was set here before.
        torch.get_num_threads()
        torch.set_num_threads(1)
        self._started.set()
        try:
            while self._run_commands():
                if self._batcher.busy:
                    for request, completion in self._batcher.step():
                        self._futures.pop(request).set_result(completion)
        except NonFiniteLogitsError as error:
            self._end(error)
        # Whatever broke, those who wait must learn of it.
        except Exception as error:
            failure = BrokenSamplerError(f"the sampler broke and has stopped: {error!r}")
            failure.__cause__ = error
            self._end(failure)
        else:
            self._end(SamplerError("the sampler was closed before it could answer"))

    def _run_commands(self) -> bool:
        """Wait until there is something to do, run the commands; False if it is to end."""
        with self._changed:
            while not (self._commands or self._closing or self._batcher.busy):
                self._changed.wait()
            if self._closing:
                return False
            commands, self._commands = self._commands, []
        for command in commands:
            command()
        return True

    def _end(self, failure: SamplerError) -> None:
        with self._changed:
            self._failure = failure
            commands, self._commands = self._commands, []
        # What they add is failed below with the rest, as the batcher is not stepped any more.
        for command in commands:
            command()
        for future in self._futures.values():
            future.set_exception(failure)
        self._futures.clear()

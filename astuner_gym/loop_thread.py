"""A thread of its own for an event loop, so that synchronous code can drive it from anywhere."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, TypeVar

from astuner_gym.errors import WorkflowError
from astuner_gym.quiescence import QuiescentLoop

T = TypeVar("T")

_GRACE_S = 3.0
"""How long an interrupted loop may take to return before it counts as blocked: longer than it takes
to cancel what hangs (``stepped_episode``)."""


class LoopThread:
    """Runs functions, one after the other, in a daemon thread that holds an event loop."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self.loop = QuiescentLoop()
        self.blocked = False
        """True once a function outlasted its deadline and an interruption: the thread is lost."""
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def run(self, function: Callable[[], T], *, deadline_s: float) -> T:
        """Run the function in the thread and return what it returns.

        Raises:
            WorkflowError: The loop was blocked past the deadline; the message holds its stack.
        """
        job = self._submit(function)
        try:
            if not wait([job], deadline_s).done:
                self.loop.interrupt()
                if not wait([job], _GRACE_S).done:
                    raise self._blocked(deadline_s)
        except KeyboardInterrupt:
            self._call_off(job)
            raise
        return job.result()

    async def arun(self, function: Callable[[], T], *, deadline_s: float) -> T:
        """Do as :meth:`run` without blocking the caller's loop."""
        job = self._submit(function)
        done = asyncio.wrap_future(job)
        try:
            if not (await asyncio.wait([done], timeout=deadline_s))[0]:
                self.loop.interrupt()
                if not (await asyncio.wait([done], timeout=_GRACE_S))[0]:
                    raise self._blocked(deadline_s)
        except asyncio.CancelledError:
            self._call_off(job)
            done.add_done_callback(_drop_outcome)
            raise
        return done.result()

    def stop(self) -> None:
        """Close the loop and end the thread, once it has run what it was given."""
        self._jobs.put(None)
        self._thread.join()

    def abandon(self) -> None:
        """Leave a blocked thread to end by itself: Python can stop no thread from outside."""
        self._jobs.put(None)

    def _submit(self, function: Callable[[], T]) -> Future[T]:
        job: Future[T] = Future()
        self._jobs.put((job, function))
        return job

    def _call_off(self, job: Future[Any]) -> None:
        """Interrupt the job, or keep it from beginning."""
        if not job.cancel():
            self.loop.interrupt()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            # An interruption is of the job that ran when it came.
            self.loop.forget_interruption()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:  # handed to whoever waits in the other thread
                future.set_exception(error)
        self.loop.close()

    def _blocked(self, deadline_s: float) -> WorkflowError:
        self.blocked = True
        frame = sys._current_frames().get(self._thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame else "(the thread has ended)"
        return WorkflowError(
            f"a workflow must leave its event loop free and its threads must end, and after "
            f"{deadline_s} s this one has not; use asyncio.to_thread for blocking work, bound "
            f"what its threads do, or raise deadline_s. Its event loop is at:\n{stack}"
        )


def _drop_outcome(done: asyncio.Future[Any]) -> None:
    # An exception that nobody asks for is logged by asyncio when the future is collected.
    if not done.cancelled():
        done.exception()

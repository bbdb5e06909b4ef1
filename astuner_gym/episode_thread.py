"""The thread in which an environment's episodes live."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from astuner_gym.errors import SettingError
from astuner_gym.loop_thread import LoopThread
from astuner_gym.quiescence import QuiescentLoop
from astuner_gym.stepped_episode import cancel_all

T = TypeVar("T")


class EpisodeThread:
    """Runs jobs on an event loop in a thread that starts with the first and ends with close."""

    def __init__(self, name: str, *, deadline_s: float) -> None:
        """Start nothing yet.

        Raises:
            SettingError: The deadline is not positive, or longer than a thread can wait.
        """
        if not 0 < deadline_s <= threading.TIMEOUT_MAX:
            raise SettingError(
                f"deadline_s must be > 0 and at most {threading.TIMEOUT_MAX:.0f} for a step to "
                f"end, got {deadline_s}"
            )
        self._name = name
        self._deadline_s = deadline_s
        self._thread: LoopThread | None = None

    def run(self, job: Callable[[QuiescentLoop], T]) -> T:
        """Run the job in the thread, interrupting its loop after the deadline.

        Raises:
            WorkflowError: The loop is blocked; it is lost with all that lived on it.
        """
        thread = self._started()
        try:
            return thread.run(lambda: job(thread.loop), deadline_s=self._deadline_s)
        finally:
            self._drop_if_blocked(thread)

    async def arun(self, job: Callable[[QuiescentLoop], T]) -> T:
        """Do as :meth:`run` without blocking the caller's event loop."""
        thread = self._started()
        try:
            return await thread.arun(lambda: job(thread.loop), deadline_s=self._deadline_s)
        finally:
            self._drop_if_blocked(thread)

    def close(self) -> None:
        """End all tasks and the thread; a later job starts it anew.

        Raises:
            WorkflowError: A task or thread of a workflow did not end when told to.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            thread.run(lambda: _shut_down(thread.loop), deadline_s=self._deadline_s)
        except BaseException:
            # What would not end in time may never end: waiting for it could be for ever.
            thread.abandon()
            raise
        thread.stop()

    def _started(self) -> LoopThread:
        if self._thread is None:
            self._thread = LoopThread(self._name)
        return self._thread

    def _drop_if_blocked(self, thread: LoopThread) -> None:
        if thread.blocked:
            thread.abandon()
            self._thread = None


def _shut_down(loop: QuiescentLoop) -> None:
    async def wind_up() -> None:
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()

    cancel_all(loop)
    loop.run_until_complete(wind_up())

"""An event loop that stops when nothing can go on until a model call is answered.

An environment's step must end at the same point however long its tools take. So the loop stops
when each task waits, directly or through other tasks, on an unanswered call, and not before: a
task that waits on a service, a timer or a thread is waited for. Example: two gathered agents, of
which one first sleeps for 20 ms, are both found at their calls, as they are without the sleep.

What a task waits on is told by the future under it:

=================================  =====================================================
an unanswered call                 parked
another task, or a gathering       as that other task
a lock, event, queue, task group,  parked, if no timer, thread or connection is under way
``wait``, ``wait_for``, ``shield``    that might release it
anything else                      under way: a timer, a thread, a connection, a bare future
=================================  =====================================================

A timeout around a call is no timer in this sense. While the loop stands still so does its clock,
so no timeout runs out because whoever answers the calls takes long.

Limits: agents must coordinate by asyncio's primitives, since a bare future may belong to a
thread; and a background task that waits on a connection or a timer for as long as the episode
lives keeps the loop from coming to rest.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from asyncio.tasks import _GatheringFuture  # type: ignore[attr-defined]  # no public name
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from enum import IntEnum
from types import FrameType, FunctionType, MethodType
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakSet

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _State(IntEnum):
    """How far a task is from being stuck on unanswered calls; the greatest of several counts."""

    PARKED = 0
    """Only an answer can wake it."""
    UNCERTAIN = 1
    """Another task, or something under way, may wake it."""
    UNDER_WAY = 2
    """Something other than an answer will wake it."""


_PRIMITIVES = frozenset({"asyncio.locks", "asyncio.queues", "asyncio.taskgroups"})
_TIMEOUTS = frozenset({"_release_waiter", "_on_timeout", "_timeout"})
"""Callbacks of wait_for and wait, of asyncio.timeout and as_completed, of anyio's scopes."""


class QuiescentLoop(asyncio.SelectorEventLoop):
    """A private loop for one stepped environment; between runs it stands still, clock included."""

    def __init__(self) -> None:
        """Make the loop; it must be run and closed in one thread."""
        self._calls: set[asyncio.Future[Any]] = set()
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._primitives: WeakSet[asyncio.Future[Any]] = WeakSet()
        self._outside: WeakSet[asyncio.Future[Any]] = WeakSet()
        self._timers: WeakSet[asyncio.TimerHandle] = WeakSet()
        self._root: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._stood_still_s = 0.0
        self._stopped_at: float | None = None
        self._selector_seen = _IdleSelector(self._stop_at_rest)
        super().__init__(self._selector_seen)
        self._own_files = len(self._selector_seen.get_map())

    def open_call(self) -> asyncio.Future[Any]:
        """Return a future on which a task may wait for an answer from outside the loop."""
        call = super().create_future()
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    def run_to_rest(self, root: asyncio.Task[Any]) -> bool:
        """Run until ``root`` is done or only answers to open calls can bring it further.

        The root itself is not asked what it waits on: it must be waiting for the other tasks.

        Returns:
            False if the run was interrupted before.
        """
        if root.done():
            return True
        self._interrupted = False
        self._root = root
        root.add_done_callback(self._stop_for)
        try:
            self.run_forever()
        finally:
            self._root = None
            root.remove_done_callback(self._stop_for)
        return root.done() or self._at_rest(root)

    def interrupt(self) -> None:
        """Make :meth:`run_to_rest` return when it next has to wait; for another thread to call."""
        self._interrupted = True
        self.call_soon_threadsafe(_wake)

    def under_way(self) -> list[str]:
        """Describe the tasks that keep the loop from coming to rest, each in one line."""
        return sorted(
            _describe(task)
            for task in self._tasks
            if not task.done() and _waiter(task) is not None and self._state(task) > _State.PARKED
        )

    def unfinished_tasks(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done."""
        return [task for task in self._tasks if not task.done()]

    # What asyncio calls: each is a public method of the loop.

    def run_forever(self) -> None:
        """Run until stopped."""
        if self._stopped_at is not None:
            self._stood_still_s += super().time() - self._stopped_at
            self._stopped_at = None
        try:
            super().run_forever()
        finally:
            self._stopped_at = super().time()

    def time(self) -> float:
        """Return the seconds that the loop has run, on a clock that halts when it does."""
        now = self._stopped_at if self._stopped_at is not None else super().time()
        return now - self._stood_still_s

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Make a task and keep it in view."""
        task = super().create_task(coro, name=name, context=context)
        self._tasks.add(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future, noting whether asyncio's own primitives asked for it."""
        future = super().create_future()
        # The caller is the one thing that tells a queue's future from a socket's.
        made_by_primitive = _is_primitive(sys._getframe(1))
        (self._primitives if made_by_primitive else self._outside).add(future)
        return future

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer, noting it unless it is a timeout."""
        handle = super().call_at(when, callback, *args, context=context)
        if not _is_timeout(callback):
            self._timers.add(handle)
        return handle

    def _stop_for(self, task: asyncio.Task[Any]) -> None:
        self.stop()

    def _stop_at_rest(self) -> bool:
        """Stop the loop if it is at rest or interrupted; called when it is about to wait."""
        if self._root is None or not (self._interrupted or self._at_rest(self._root)):
            return False
        self.stop()
        return True

    def _at_rest(self, root: asyncio.Task[Any]) -> bool:
        if not self._calls:
            return False
        states = {self._state(task) for task in self._tasks if task is not root and not task.done()}
        worst = max(states, default=_State.UNDER_WAY)
        if worst is _State.UNCERTAIN:
            return not self._outside_is_active()
        return worst is _State.PARKED

    def _state(self, task: asyncio.Task[Any]) -> _State:
        waiter = _waiter(task)
        return _State.UNDER_WAY if waiter is None else self._state_of_future(waiter)

    def _state_of_future(self, future: asyncio.Future[Any]) -> _State:
        # A task that is waited on has a state of its own, which counts by itself.
        if future in self._calls or isinstance(future, asyncio.Task):
            return _State.PARKED
        if isinstance(future, _GatheringFuture):
            children = [child for child in future._children if not child.done()]
            return max(map(self._state_of_future, children), default=_State.UNDER_WAY)
        return _State.UNCERTAIN if future in self._primitives else _State.UNDER_WAY

    def _outside_is_active(self) -> bool:
        now = self.time()
        return (
            any(not future.done() for future in self._outside)
            or any(not timer.cancelled() and timer.when() > now for timer in self._timers)
            or len(self._selector_seen.get_map()) > self._own_files
        )


class _IdleSelector(selectors.DefaultSelector):
    """The platform's selector, which asks before it waits."""

    def __init__(self, before_wait: Callable[[], bool]) -> None:
        super().__init__()
        self._before_wait = before_wait

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events, unless there are none and ``before_wait`` returns True."""
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        events = super().select(0)
        if events or self._before_wait():
            return events
        return super().select(timeout)


def _wake() -> None:
    """Do nothing, in the loop's thread: that there was something to do ends its wait."""


def _is_primitive(frame: FrameType) -> bool:
    module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
    return (
        module in _PRIMITIVES
        or (module == "asyncio.tasks" and function != "sleep")
        or (module == "anyio._backends._asyncio" and function == "__aexit__")
    )


def _is_timeout(callback: Callable[..., object]) -> bool:
    return isinstance(callback, FunctionType | MethodType) and callback.__name__ in _TIMEOUTS


def _waiter(task: asyncio.Task[Any]) -> asyncio.Future[Any] | None:
    """Return the future that wakes the task: asyncio has no public name for it."""
    waiter: asyncio.Future[Any] | None = task._fut_waiter  # type: ignore[attr-defined]
    return waiter


def _describe(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack(limit=1)
    where = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "its start"
    return f"{task.get_name()} at {where} waits on {_waiter(task)!r}"

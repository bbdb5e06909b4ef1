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

Several episodes may share a loop, each under a root task of its own; it is at rest when all of them
are. What an episode's tasks are is told by the context in which they were made. A root that is not
done at rest and whose tasks have no open call can never go on: it is deadlocked.

Limits: agents must coordinate by asyncio's primitives, since a bare future may belong to a thread,
and a thread that sets an event must be one that asyncio started. A background task that waits on a
connection or a timer for as long as the episode lives keeps the loop from coming to rest, and so
does a timer or connection that an ended episode left behind, since a pool may have handed it on.
Episodes must not wait on each other.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from asyncio.tasks import _GatheringFuture  # type: ignore[attr-defined]  # no public name
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Generator, Iterator
from contextvars import Context, ContextVar, copy_context
from enum import IntEnum
from itertools import count
from types import FrameType, FunctionType, MethodType
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary, WeakSet

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


_FAMILY: ContextVar[int] = ContextVar("family", default=0)
"""Which root's work runs in this context; 0 if that of none."""

_PRIMITIVES = frozenset({"asyncio.locks", "asyncio.queues", "asyncio.taskgroups"})
_TIMEOUTS = frozenset({"_release_waiter", "_on_timeout", "_timeout"})
"""Callbacks of wait_for and wait, of asyncio.timeout and as_completed, of anyio's scopes."""


class QuiescentLoop(asyncio.SelectorEventLoop):
    """A private loop for stepped episodes; between runs it stands still, clock included."""

    def __init__(self) -> None:
        """Make the loop; it must be run and closed in one thread."""
        self._families = count(1)
        self._calls: set[asyncio.Future[Any]] = set()
        self._open_calls: Counter[int] = Counter()
        self._tasks: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._primitives: WeakSet[asyncio.Future[Any]] = WeakSet()
        self._outside: WeakSet[asyncio.Future[Any]] = WeakSet()
        self._timers: WeakSet[asyncio.TimerHandle] = WeakSet()
        self._roots: set[asyncio.Task[Any]] = set()
        self._interrupted = False
        self._stood_still_s = 0.0
        self._stopped_at: float | None = None
        self._selector_seen = _IdleSelector(self._stop_at_rest)
        super().__init__(self._selector_seen)
        self._own_files = len(self._selector_seen.get_map())

    def create_root(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None
    ) -> asyncio.Task[T]:
        """Make a task that is told, with all tasks made under it, from those of other roots."""
        context = copy_context()
        context.run(_FAMILY.set, next(self._families))
        return context.run(self.create_task, coro, name=name)

    def open_call(self) -> asyncio.Future[Any]:
        """Return a future on which a task may wait for an answer from outside the loop."""
        call = super().create_future()
        family = _FAMILY.get()
        self._calls.add(call)
        self._open_calls[family] += 1

        def close(call: asyncio.Future[Any]) -> None:
            self._calls.discard(call)
            self._open_calls[family] -= 1
            if not self._open_calls[family]:
                del self._open_calls[family]

        call.add_done_callback(close)
        return call

    def run_to_rest(self, *roots: asyncio.Task[Any]) -> bool:
        """Run until each root is done or only answers to open calls can bring it further.

        A root whose tasks have open calls is not asked what it waits on itself: it must be waiting
        for them.

        Returns:
            False if the run was interrupted before.
        """
        self._roots = {root for root in roots if not root.done()}
        if not self._roots:
            return True
        waited_for = tuple(self._roots)
        for root in waited_for:
            root.add_done_callback(self._root_is_done)
        try:
            self.run_forever()
        finally:
            self._roots = set()
            for root in waited_for:
                root.remove_done_callback(self._root_is_done)
        return self.at_rest(*waited_for)

    def at_rest(self, *roots: asyncio.Task[Any]) -> bool:
        """Return whether each root is done or only an answer can bring it further, or nothing."""
        families = {self._tasks[root]: root for root in roots if not root.done()}
        if not families:
            return True
        worst = _State.PARKED
        for task, family in self._living(families):
            worst = max(worst, self._state_in(task, family, root=families.get(family)))
            if worst is _State.UNDER_WAY:
                return False
        return worst is _State.PARKED or not self._outside_is_active()

    def interrupt(self) -> None:
        """Make :meth:`run_to_rest` return when it next has to wait; for another thread to call.

        That holds until :meth:`forget_interruption`.
        """
        self._interrupted = True
        self.call_soon_threadsafe(_wake)

    def forget_interruption(self) -> None:
        """Let :meth:`run_to_rest` wait again; whoever runs the loop calls it before a new job."""
        self._interrupted = False

    def is_under_way(self, root: asyncio.Task[Any]) -> bool:
        """Return whether a timer, a thread, a connection or a bare future will wake its tasks."""
        family = self._tasks[root]
        return any(
            self._state_in(task, family, root=root) is _State.UNDER_WAY
            for task in self.unfinished_tasks(root)
        )

    def under_way(self, *roots: asyncio.Task[Any]) -> list[str]:
        """Describe the tasks, of the roots or all, that are not parked at calls, a line each."""
        return sorted(
            _describe(task)
            for task in self.unfinished_tasks(*roots)
            if _waiter(task) is not None and self._state(task) > _State.PARKED
        )

    def unfinished_tasks(self, *roots: asyncio.Task[Any]) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, of the roots or all, in the order of making."""
        families = {self._tasks[root] for root in roots}
        return [
            task
            for task, family in self._tasks.items()
            if (not families or family in families) and not task.done()
        ]

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
        self._tasks[task] = _FAMILY.get()
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

    def _root_is_done(self, root: asyncio.Task[Any]) -> None:
        self._roots.discard(root)
        if not self._roots:
            self.stop()

    def _stop_at_rest(self) -> bool:
        """Stop the loop if it is at rest or interrupted; called when it is about to wait."""
        if not self._roots or not (self._interrupted or self.at_rest(*self._roots)):
            return False
        self.stop()
        return True

    def _living(self, families: Collection[int]) -> Iterator[tuple[asyncio.Task[Any], int]]:
        # What belongs to no root may be anybody's, and counts for all.
        for task, family in self._tasks.items():
            if (family in families or not family) and not task.done():
                yield task, family

    def _state_in(
        self, task: asyncio.Task[Any], family: int, *, root: asyncio.Task[Any] | None
    ) -> _State:
        if task is root and self._open_calls[family]:
            return _State.PARKED
        return self._state(task)

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

"""Answers of actors, and their failures under the names that they have without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias, TypeVar

import ray
from ray import ObjectRef
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    RayActorError,
    RayError,
    RayTaskError,
)

from astuner_gym.errors import AstunerError
from astuner_rl.errors import LostProcessError

T = TypeVar("T")

Watch: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Looks after an actor until it is lost, and then raises ``LostProcessError``."""

WATCH_EVERY_S = 1.0
"""Seconds between two looks after an actor."""
MOST_RESTARTS = 10
"""Times that an actor is started anew in one launch of a run; one that dies more often will die of
what it is asked."""


async def answer(reference: ObjectRef[T], *, of: str) -> T:
    """Await what an actor answers; cancelling the await cancels the call.

    Args:
        reference: Of the call.
        of: Whose answer it is, for messages.

    Raises:
        AstunerError: The actor raised it.
        LostProcessError: The actor has died for good.
    """
    try:
        result: T = await reference
    except asyncio.CancelledError:
        ray.cancel(reference)
        raise
    except RayError as error:
        raise _own_error(error, of=of) from error
    return result


def answers(
    references: Sequence[ObjectRef[T]], *, of: str, within_s: float | None = None
) -> list[T]:
    """Block until every call is answered; the first that fails ends the waiting.

    Args:
        references: Of the calls.
        of: Whose answers they are, for messages.
        within_s: Seconds after which they are given up.

    Raises:
        AstunerError: An actor raised it.
        LostProcessError: An actor has died for good, or does not answer.
    """
    try:
        result: list[T] = ray.get(list(references), timeout=within_s)
    except RayError as error:
        raise _own_error(error, of=of, within_s=within_s) from error
    return result


async def watch(look: Callable[[], Awaitable[int]], *, of: str, within_s: float | None) -> None:
    """Look after an actor, again and again, until it is lost or nobody waits any more.

    Args:
        look: Ends when the actor is well, and returns the number of its process.
        of: What is looked after, for messages.
        within_s: Seconds after which an actor that does not answer is lost; None waits for ever.

    Raises:
        LostProcessError: It has died for good or too often, or does not answer.
    """
    processes: list[int] = []
    while True:
        try:
            async with asyncio.timeout(within_s):
                process = await look()
        except TimeoutError as error:
            raise _silent(of, within_s) from error
        if process not in processes[-1:]:
            processes.append(process)
        if len(processes) > 1 + MOST_RESTARTS:
            raise LostProcessError(
                f"{of} may die {MOST_RESTARTS} times and has died {len(processes) - 1} times: see "
                "its last words in Ray's logs"
            )
        await asyncio.sleep(WATCH_EVERY_S)


def _own_error(error: RayError, *, of: str, within_s: float | None = None) -> Exception:
    if isinstance(error, RayTaskError):
        if isinstance(error.cause, RayActorError | ObjectLostError):
            # It was to work on what another actor did not live to answer.
            return LostProcessError(
                f"{of} was asked with an answer of a process that has died, and Ray cannot start "
                f"that anew: {_first_line(error.cause)}"
            )
        # What an actor raised: by its own name if it has one, else with its traceback.
        return error.cause if isinstance(error.cause, AstunerError) else error
    if isinstance(error, GetTimeoutError):
        return _silent(of, within_s)
    return LostProcessError(f"{of} has died, and Ray cannot start it anew: {_first_line(error)}")


def _first_line(error: RayError) -> str:
    return str(error).strip().splitlines()[0]


def _silent(of: str, within_s: float | None) -> LostProcessError:
    return LostProcessError(
        f"{of} must answer within {within_s} s (backbone.answer_s) and did not: its machine is "
        "lost or overloaded"
    )

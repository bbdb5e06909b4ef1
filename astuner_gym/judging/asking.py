"""Asking a model until an answer can be used: what every judging model does alike.

What a model answers is untrusted text, read by a parser that comes with the question. An answer
that the parser refuses is asked for once more with the reason, and so is one that was cut short,
whatever it seems to say: ``Score: 1`` may be the beginning of ``Score: 10``. When all attempts are
used up the question fails by name: an episode is then dropped with that reason, and never scored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from astuner_gym.errors import JudgeError

T = TypeVar("T")
Messages: TypeAlias = Sequence[Mapping[str, str]]

_KEPT_ANSWERS: Final = 65_536
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_SHOWN_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said."""

    text: str
    """Without its thinking."""
    cut: str = ""
    """Which limit cut it short; empty if it is whole."""


class _Turn(asyncio.Lock):
    """Held by whoever asks a question, while others who ask the same wait."""

    failure: str | None = None
    """Why it came to nothing: those who waited need not try it once more."""


class AttemptError(Exception):
    """An attempt came to nothing, but another one may not."""

    def __init__(self, reason: str, *, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s
        """Seconds to wait before the next one; None doubles them from attempt to attempt."""


class Asking:
    """Asks one model. Answers are kept by messages and temperature: a question is asked once.

    Args:
        answer: Asks the model once, with messages and a temperature; raises ``AttemptError`` if
            that came to nothing, and JudgeError if no attempt can do better.
        model: Names the model in messages.
        attempts: How often a question is asked before its failure counts.
        setting: Name of the setting of ``attempts``, for messages.
    """

    def __init__(
        self,
        answer: Callable[[Messages, float], Awaitable[Answer]],
        *,
        model: str,
        attempts: int,
        setting: str,
    ) -> None:
        self._answer = answer
        self._model = model
        self._attempts = attempts
        self._setting = setting
        # By a question's digest: as text, so many questions may fill the memory.
        self._kept: dict[bytes, str] = {}
        # Of questions that are being asked: who asks the same waits and finds the answer kept. They
        # belong to the event loop that made them.
        self._turns: WeakKeyDictionary[
            asyncio.AbstractEventLoop, WeakValueDictionary[bytes, _Turn]
        ] = WeakKeyDictionary()

    async def ask(self, messages: Messages, *, parse: Callable[[str], T], temperature: float) -> T:
        """Return the first usable answer, as ``parse`` reads it.

        Raises:
            JudgeError: The model refused, or gave no usable answer in so many attempts.
        """
        text = json.dumps([temperature, [dict(each) for each in messages]])
        question = sha256(text.encode()).digest()
        turn = self._turn(question)
        async with turn:
            if turn.failure is not None:
                raise JudgeError(turn.failure)
            if (kept := self._kept.get(question)) is not None:
                try:
                    return parse(kept)
                except ValueError:
                    pass  # another parser found it usable: this one has to ask
            try:
                answer, read = await self._usable(messages, parse=parse, temperature=temperature)
            except JudgeError as error:
                turn.failure = str(error)
                # Whoever comes later than those who wait asks anew.
                self._turns[asyncio.get_running_loop()].pop(question, None)
                raise
            self._kept[question] = answer
            if len(self._kept) > _KEPT_ANSWERS:
                self._kept.pop(next(iter(self._kept)))  # the oldest
            return read

    def _turn(self, question: bytes) -> _Turn:
        turns = self._turns.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        turn = turns.get(question)
        if turn is None:
            turn = turns[question] = _Turn()
        return turn

    async def _usable(
        self, messages: Messages, *, parse: Callable[[str], T], temperature: float
    ) -> tuple[str, T]:
        """Return an answer and what ``parse`` read in it."""
        asked = messages
        reason = ""
        for attempt in range(self._attempts):
            try:
                answer = await self._answer(asked, temperature)
            except AttemptError as error:
                reason = str(error)
                if attempt + 1 < self._attempts:
                    await asyncio.sleep(_pause_s(error, attempt))
                continue
            try:
                if answer.cut:
                    raise ValueError(f"it was cut short, {answer.cut}")
                return answer.text, parse(answer.text)
            except ValueError as error:
                reason = f"{error}; it said {shortened(answer.text)!r}"
                # At temperature 0 the same question would bring the same answer.
                asked = [
                    *messages,
                    {"role": "assistant", "content": answer.text or "(nothing)"},
                    {
                        "role": "user",
                        "content": f"This cannot be used: {error}. Give your answer once more, "
                        "in the form that was asked for.",
                    },
                ]
        raise JudgeError(
            f"{self._model} must give a usable answer within {self._attempts} attempts "
            f"({self._setting}), the last one: {reason}"
        )


async def all_of(questions: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the answers to questions that are asked at once, in their order.

    The first one that fails takes the others with it: what they would have cost is saved.

    Raises:
        Exception: What the first one that failed raised.
    """
    try:
        async with asyncio.TaskGroup() as running:
            tasks = [running.create_task(question) for question in questions]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]


def shortened(text: str) -> str:
    """Return the beginning of a text on one line, for messages."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARACTERS else flat[:_SHOWN_CHARACTERS] + "…"


def _pause_s(error: AttemptError, attempt: int) -> float:
    pause = _FIRST_PAUSE_S * 2**attempt if error.pause_s is None else error.pause_s
    return min(pause, _LONGEST_PAUSE_S)

"""A judge's model behind an address: any server that speaks OpenAI's chat protocol.

What it answers is untrusted text, read by a parser that is given with each question. An answer that
the parser refuses is asked for once more with the reason, a failing server is asked again after a
pause, and when all attempts are used up the question fails by name: an episode is then dropped with
that reason, and never scored.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakValueDictionary

from openai import APIError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import BaseModel, Field, ValidationError

from astuner_gym.chat.parsers import split_thinking
from astuner_gym.errors import JudgeError, SettingError

T = TypeVar("T")

_NO_KEY = "none"
_CHECK_S = 10.0
"""Seconds that a server may take to list its models."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_CACHED_ANSWERS = 65_536
_MIGHT_PASS = (408, 409, 425, 429)
"""HTTP statuses below 500 after which the same request may succeed."""
_SHOWN_CHARACTERS = 200


@dataclass
class EndpointConfig:
    """A server that speaks the OpenAI protocol."""

    group: ClassVar[str] = "judge"
    """Where the settings below are found, for messages."""

    base_url: str
    """Address of the API, such as ``http://localhost:8000/v1``."""
    model: str
    """Model name that the server knows."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is no setting."""
    temperature: float = 0.0
    """Divides the logits of the judge's answers; 0 takes the most likely one."""
    max_tokens: int = 512
    """Tokens of one answer, at most, thinking included."""
    timeout_s: float = 60.0
    """Seconds that one attempt may take."""
    attempts: int = 3
    """How often a question is asked before its failure counts."""
    concurrency: int = 16
    """Requests in flight at once, at most."""

    def __post_init__(self) -> None:
        # Neither message repeats the value: a key given here by mistake must not reach a log.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise SettingError(
                f"{self.group}.api_key_env must be the name of an environment variable, not a key; "
                f"export the key and set {self.group}.api_key_env=<variable>"
            )
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or "@" in address.netloc:
            raise SettingError(
                f"{self.group}.base_url must be an http or https address without user and "
                f"password; set {self.group}.base_url=http://<host>:<port>/v1"
            )
        if not self.model.strip():
            raise SettingError(
                f"{self.group}.model must name a model that the server knows, got ''; "
                f"set {self.group}.model=<name>"
            )
        if not 0 <= self.temperature <= 2:
            raise SettingError(
                f"{self.group}.temperature must be between 0 and 2, got {self.temperature}; "
                f"set {self.group}.temperature=0"
            )
        for name, value in (
            ("max_tokens", self.max_tokens),
            ("attempts", self.attempts),
            ("concurrency", self.concurrency),
        ):
            if value < 1:
                raise SettingError(
                    f"{self.group}.{name} must be >= 1, got {value}; set {self.group}.{name}=1, say"
                )
        if not 0 < self.timeout_s < float("inf"):
            raise SettingError(
                f"{self.group}.timeout_s must be > 0 and finite, got {self.timeout_s}; "
                f"set {self.group}.timeout_s=60"
            )


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Answer(BaseModel):
    """The part of a chat completion that is read here."""

    choices: list[_Choice] = Field(min_length=1)


class _ModelList(BaseModel):
    """The part of a list of models by which a server that speaks the protocol is known."""

    data: list[dict[str, Any]]


class _AttemptError(Exception):
    """An attempt came to nothing, but another one may not."""

    def __init__(self, reason: str, *, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s
        """Seconds that the server asks for; None where it says nothing."""


@dataclass(slots=True)
class _Connections:
    """What belongs to one event loop: a client, and who waits for whom."""

    client: AsyncOpenAI
    slots: asyncio.Semaphore
    # Of questions that are being asked: who asks the same waits and finds the answer kept.
    asking: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)


class ChatEndpoint:
    """Asks a server; see :class:`astuner_gym.judging.model.JudgeModel`.

    Answers are kept by (model, messages, temperature), so a question is paid for once. One endpoint
    may be used in several event loops, in each of which ``concurrency`` holds.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._key = os.environ.get(config.api_key_env) or _NO_KEY
        self._kept: dict[str, str] = {}
        # Connections belong to the event loop that made them.
        self._connections: WeakKeyDictionary[asyncio.AbstractEventLoop, _Connections] = (
            WeakKeyDictionary()
        )

    async def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        parse: Callable[[str], T],
        temperature: float | None = None,
    ) -> T:
        """Return the first usable answer, as ``parse`` reads it.

        Thinking is taken off the answer before it is parsed.

        Args:
            messages: Of the prompt, each with ``role`` and ``content``.
            parse: Reads an answer; raises ValueError, saying what it wants, for an unusable one.
            temperature: How the answer is drawn; None for that of the settings.

        Raises:
            JudgeError: The server refused, or gave no usable answer in so many attempts.
        """
        drawn_at = self.config.temperature if temperature is None else temperature
        question = json.dumps([self.config.model, drawn_at, [dict(each) for each in messages]])
        connections = self._connections_here()
        lock = connections.asking.get(question)
        if lock is None:
            lock = connections.asking[question] = asyncio.Lock()
        async with lock:
            if (kept := self._kept.get(question)) is not None:
                try:
                    return parse(kept)
                except ValueError:
                    pass  # another parser found it usable: this one has to ask
            answer, read = await self._usable(messages, parse=parse, temperature=drawn_at)
            self._kept[question] = answer
            if len(self._kept) > _CACHED_ANSWERS:
                self._kept.pop(next(iter(self._kept)))  # the oldest
            return read

    async def check(self) -> None:
        """Ask the server for its models, so that a wrong address is found before a run starts.

        Raises:
            SettingError: It does not answer, refuses, or is no such server.
        """
        client = self._connections_here().client.with_options(timeout=_CHECK_S)
        try:
            response = await client.models.with_raw_response.list()
            _ModelList.model_validate_json(response.content)
        except (APIError, ValidationError) as error:
            raise SettingError(
                f"{self.config.group}.base_url must be the address of an API that lists its "
                f"models, got {self.config.base_url}: {self._without_key(str(error))}"
            ) from error

    async def close(self) -> None:
        """Close the connections that this event loop has made."""
        connections = self._connections.pop(asyncio.get_running_loop(), None)
        if connections is not None:
            await connections.client.close()

    async def _usable(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        parse: Callable[[str], T],
        temperature: float,
    ) -> tuple[str, T]:
        """Return an answer and what ``parse`` read in it."""
        asked = [dict(each) for each in messages]
        reason = ""
        for attempt in range(self.config.attempts):
            try:
                answer = await self._answer(asked, temperature=temperature)
            except _AttemptError as error:
                reason = str(error)
                if attempt + 1 < self.config.attempts:
                    await asyncio.sleep(_pause_s(error, attempt))
                continue
            try:
                return answer, parse(answer)
            except ValueError as error:
                reason = f"{error}; it said {_shortened(answer)!r}"
                # At temperature 0 the same question would bring the same answer.
                asked = [
                    *(dict(each) for each in messages),
                    {"role": "assistant", "content": answer or "(nothing)"},
                    {
                        "role": "user",
                        "content": f"This cannot be read: {error}. Give your answer once more, "
                        "in the form that was asked for.",
                    },
                ]
        raise JudgeError(
            f"{self.config.model} at {self.config.base_url} must give a usable answer within "
            f"{self.config.attempts} attempts ({self.config.group}.attempts), the last one: "
            f"{self._without_key(reason)}"
        )

    async def _answer(self, messages: Sequence[Mapping[str, str]], *, temperature: float) -> str:
        connections = self._connections_here()
        completions = connections.client.chat.completions.with_raw_response
        # Any: the client types each role's message apart.
        request: Any = {
            "model": self.config.model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": self.config.max_tokens,
        }
        try:
            async with connections.slots, asyncio.timeout(self.config.timeout_s):
                response = await completions.create(**request)
        except TimeoutError as error:
            raise _AttemptError(
                f"an attempt may take {self.config.timeout_s} s ({self.config.group}.timeout_s)"
            ) from error
        except APIStatusError as error:
            reason = f"HTTP status {error.status_code}: {_shortened(str(error))}"
            if error.status_code < 500 and error.status_code not in _MIGHT_PASS:
                raise JudgeError(
                    f"{self.config.model} at {self.config.base_url} refused: "
                    f"{self._without_key(reason)}"
                ) from error
            asked_for = error.response.headers.get("retry-after", "")
            raise _AttemptError(reason, pause_s=_seconds(asked_for)) from error
        except APIError as error:
            raise _AttemptError(_shortened(str(error))) from error
        try:
            # The client would pass on whatever JSON the server sends.
            choice = _Answer.model_validate_json(response.content).choices[0]
        except ValidationError as error:
            raise _AttemptError(_shortened(str(error))) from error
        return split_thinking(choice.message.content or "")[1].strip()

    def _connections_here(self) -> _Connections:
        loop = asyncio.get_running_loop()
        if loop not in self._connections:
            self._connections[loop] = _Connections(
                client=AsyncOpenAI(
                    base_url=self.config.base_url,
                    api_key=self._key,
                    timeout=self.config.timeout_s,
                    max_retries=0,  # attempts are counted here
                    # Its own client would close itself in whatever loop runs when it is collected.
                    http_client=DefaultAsyncHttpxClient(),
                ),
                slots=asyncio.Semaphore(self.config.concurrency),
            )
        return self._connections[loop]

    def _without_key(self, text: str) -> str:
        """Return a text without the key, which a server that refuses it may repeat."""
        return text if self._key == _NO_KEY else text.replace(self._key, "[redacted]")


def _pause_s(error: _AttemptError, attempt: int) -> float:
    pause = _FIRST_PAUSE_S * 2**attempt if error.pause_s is None else error.pause_s
    return min(pause, _LONGEST_PAUSE_S)


def _seconds(text: str) -> float | None:
    """Return the seconds of a ``retry-after`` header; None where it holds a date or nothing."""
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d+)?", text) else None


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARACTERS else flat[:_SHOWN_CHARACTERS] + "…"

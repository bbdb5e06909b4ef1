"""A judge's model behind an address: any server that speaks OpenAI's chat protocol."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from openai import APIError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import BaseModel, Field, ValidationError

from astuner_gym.chat.parsers import split_thinking
from astuner_gym.errors import JudgeError, SettingError
from astuner_gym.judging.asking import Answer, Asking, AttemptError, shortened
from astuner_gym.redaction import NO_KEY, without_key

T = TypeVar("T")

_CHECK_S = 10.0
"""Seconds that a server may take to list its models."""
_MIGHT_PASS = (408, 409, 425, 429)
"""HTTP statuses below 500 after which the same request may succeed."""


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
        self.check_server()
        self.check_asking()

    @classmethod
    def setting(cls, name: str) -> str:
        """Return how the setting of a field is written, for messages."""
        return f"{cls.group}.{name}"

    def check_server(self) -> None:
        """Refuse settings by which no server can be found.

        Raises:
            SettingError: An address, a name or a time breaks a rule.
        """
        require_server(
            self.setting,
            base_url=self.base_url,
            model=self.model,
            api_key_env=self.api_key_env,
        )
        if not 0 < self.timeout_s < float("inf"):
            key = self.setting("timeout_s")
            raise SettingError(f"{key} must be > 0 and finite, got {self.timeout_s}; set {key}=60")

    def check_asking(self) -> None:
        """Refuse settings by which no model can be asked, wherever it is.

        Raises:
            SettingError: A number breaks a rule.
        """
        if not 0 <= self.temperature <= 2:
            key = self.setting("temperature")
            raise SettingError(
                f"{key} must be between 0 and 2, got {self.temperature}; set {key}=0"
            )
        for name, value in (
            ("max_tokens", self.max_tokens),
            ("attempts", self.attempts),
            ("concurrency", self.concurrency),
        ):
            if value < 1:
                key = self.setting(name)
                raise SettingError(f"{key} must be >= 1, got {value}; set {key}=1, say")


def require_server(
    setting: Callable[[str], str], *, base_url: str, model: str, api_key_env: str
) -> None:
    """Refuse a server that cannot be found.

    Args:
        setting: From the name of a value below to that of the setting that holds it, for messages.
        base_url: Address of the API.
        model: Model name that the server knows.
        api_key_env: Name of the environment variable that holds the key.

    Raises:
        SettingError: An address or a name breaks a rule.
    """
    # Neither message repeats the value: a key given here by mistake must not reach a log.
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", api_key_env):
        key = setting("api_key_env")
        raise SettingError(
            f"{key} must be the name of an environment variable, not a key; export the key and "
            f"set {key}=<variable>"
        )
    address = urlsplit(base_url)
    if address.scheme not in ("http", "https") or "@" in address.netloc:
        key = setting("base_url")
        raise SettingError(
            f"{key} must be an http or https address without user and password; "
            f"set {key}=http://<host>:<port>/v1"
        )
    if not model.strip():
        key = setting("model")
        raise SettingError(
            f"{key} must name a model that the server knows, got {model!r}; set {key}=<name>"
        )


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    """The part of a chat completion that is read here."""

    choices: list[_Choice] = Field(min_length=1)


class _ModelList(BaseModel):
    """The part of a list of models by which a server that speaks the protocol is known."""

    data: list[dict[str, Any]]


@dataclass(slots=True)
class _Connections:
    """What belongs to one event loop."""

    client: AsyncOpenAI
    slots: asyncio.Semaphore


class ChatEndpoint:
    """Asks a server; see :class:`astuner_gym.judging.model.JudgeModel`.

    A failing server is asked again after a pause, and a question is paid for once. One endpoint may
    be used in several event loops, in each of which ``concurrency`` holds.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._key = os.environ.get(config.api_key_env) or NO_KEY
        self._asking = Asking(
            self._answer,
            model=f"{config.model} at {config.base_url}",
            attempts=config.attempts,
            setting=config.setting("attempts"),
        )
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
        return await self._asking.ask(messages, parse=parse, temperature=drawn_at)

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
                f"{self.config.setting('base_url')} must be the address of an API that lists its "
                f"models, got {self.config.base_url}: {without_key(str(error), self._key)}"
            ) from error

    async def close(self) -> None:
        """Close the connections that this event loop has made."""
        connections = self._connections.pop(asyncio.get_running_loop(), None)
        if connections is not None:
            await connections.client.close()

    async def _answer(self, messages: Sequence[Mapping[str, str]], temperature: float) -> Answer:
        connections = self._connections_here()
        completions = connections.client.chat.completions.with_raw_response
        # Any: the client types each role's message apart.
        request: Any = {
            "model": self.config.model,
            "messages": [dict(each) for each in messages],
            "temperature": temperature,
            "max_tokens": self.config.max_tokens,
        }
        try:
            async with connections.slots, asyncio.timeout(self.config.timeout_s):
                response = await completions.create(**request)
        except TimeoutError as error:
            raise AttemptError(
                f"an attempt may take {self.config.timeout_s} s "
                f"({self.config.setting('timeout_s')})"
            ) from error
        except APIStatusError as error:
            reason = f"HTTP status {error.status_code}: {self._said(error)}"
            if error.status_code < 500 and error.status_code not in _MIGHT_PASS:
                raise JudgeError(
                    f"{self.config.model} at {self.config.base_url} refused: {reason}"
                ) from error
            asked_for = error.response.headers.get("retry-after", "")
            raise AttemptError(reason, pause_s=_seconds(asked_for)) from error
        except APIError as error:
            raise AttemptError(self._said(error)) from error
        try:
            # The client would pass on whatever JSON the server sends.
            choice = _Completion.model_validate_json(response.content).choices[0]
        except ValidationError as error:
            raise AttemptError(self._said(error)) from error
        said = split_thinking(without_key(choice.message.content or "", self._key))[1].strip()
        if choice.finish_reason == "length":
            limit = f"{self.config.setting('max_tokens')}={self.config.max_tokens}"
            return Answer(said, cut=f"by {limit} or the server's own limit")
        return Answer(said)

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

    def _said(self, error: Exception) -> str:
        # The key first: half of one that is cut off would not be found.
        return shortened(without_key(str(error), self._key))


def _seconds(text: str) -> float | None:
    """Return the seconds of a ``retry-after`` header; None where it holds a date or nothing."""
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d+)?", text) else None

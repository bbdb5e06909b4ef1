"""Agents answered by a server that speaks OpenAI's chat protocol: to evaluate, debug and record.

Such a server takes messages and returns text, so its calls hold no tokens and train nothing. What
it returns is untrusted: it is checked before anything relies on it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from openai import APIError, AsyncOpenAI
from pydantic import BaseModel, Field, ValidationError

from astuner_gym.chat.messages import ChatCall, ChatReply, ToolCall
from astuner_gym.chat.openai_format import message_to_openai
from astuner_gym.chat.parsers import split_thinking
from astuner_gym.errors import SettingError
from astuner_gym.redaction import NO_KEY, without_key
from astuner_rl.errors import CallBudgetError, SamplerError
from astuner_rl.types import CallRecord, Completion, EpisodeKey, FinishReason, SamplingParams

_CHECK_S = 10.0
"""Seconds that a server may take to list its models."""


class _Function(BaseModel):
    name: str
    arguments: str


class _ToolCall(BaseModel):
    function: _Function


class _Message(BaseModel):
    content: str | None = None
    reasoning_content: str | None = None
    """Thinking, where the server has separated it from the text."""
    tool_calls: list[_ToolCall] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(BaseModel):
    """The part of a chat completion that is read here."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _ModelList(BaseModel):
    """The part of a list of models by which a server that speaks the protocol is known."""

    data: list[dict[str, Any]]


_Ask: TypeAlias = Callable[[dict[str, Any]], Awaitable[_Answer]]


class EndpointPolicy:
    """A policy behind an address; one client, shared by all episodes.

    Args:
        base_url: Address of the API, such as ``http://localhost:8000/v1``.
        model: Name that the server knows.
        api_key_env: Environment variable that holds the key; a local server takes any key, so
            an unset variable is no error until the server refuses.
        timeout_s: Seconds that one request may take; failed ones are sent again twice.
        setting: Where the address comes from, for errors.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key_env: str,
        timeout_s: float = 120.0,
        setting: str = "sampler.base_url",
    ) -> None:
        self._model = model
        self._setting = setting
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=os.environ.get(api_key_env) or NO_KEY,
            timeout=timeout_s,
            max_retries=2,
        )

    def open(self, key: EpisodeKey, *, params: SamplingParams, max_calls: int) -> EndpointResponder:
        """Return the responder of one episode."""
        return EndpointResponder(self._ask, params=params, max_calls=max_calls)

    async def check(self) -> None:
        """Ask the server for its models, so that a wrong address is found before a run starts.

        Raises:
            SettingError: It does not answer, refuses, or is no such server.
        """
        client = self._client.with_options(timeout=_CHECK_S, max_retries=0)
        try:
            response = await client.models.with_raw_response.list()
            _ModelList.model_validate_json(response.content)
        except (APIError, ValidationError) as error:
            raise SettingError(
                f"{self._setting} must be the address of an API that lists its models, got "
                f"{self._client.base_url}: {without_key(str(error), self._client.api_key)}"
            ) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _ask(self, request: dict[str, Any]) -> _Answer:
        completions = self._client.chat.completions.with_raw_response
        try:
            response = await completions.create(model=self._model, **request)
            # The client would pass on whatever JSON the server sends.
            return _Answer.model_validate_json(response.content)
        except (APIError, ValidationError) as error:
            raise SamplerError(
                f"the endpoint failed: {without_key(str(error), self._client.api_key)}"
            ) from error


class EndpointResponder:
    """Answers one episode's calls over the network; see ``tracking.tracker.TrackedResponder``."""

    def __init__(self, ask: _Ask, *, params: SamplingParams, max_calls: int) -> None:
        self._ask = ask
        self._params = params
        self._max_calls = max_calls
        self._asked = 0
        self._records: list[CallRecord] = []

    async def respond(self, call: ChatCall) -> ChatReply:
        """Send one call.

        Raises:
            CallBudgetError: The episode has used up ``max_calls``.
            SamplerError: The server did not answer, refused, or answered something else.
        """
        if self._asked >= self._max_calls:
            raise CallBudgetError(
                f"an episode may make at most {self._max_calls} calls and {call.agent} asks for "
                "one more; raise rollout.max_calls if its workflow needs them"
            )
        self._asked += 1
        request: dict[str, Any] = {
            "messages": [message_to_openai(message) for message in call.messages],
            "temperature": self._params.temperature,
            "max_tokens": self._params.max_tokens,
        }
        if call.tools:
            request["tools"] = list(call.tools)
        answer = await self._ask(request)
        choice = answer.choices[0]
        reply = _reply(choice.message, answer.usage or _Usage())
        finish = FinishReason.LENGTH if choice.finish_reason == "length" else FinishReason.STOP
        self._records.append(
            CallRecord(
                call=call,
                reply=reply,
                prompt_ids=(),
                completion=Completion(
                    token_ids=(), logprobs=(), finish_reason=finish, policy_version=0
                ),
                extends=None,
                params=self._params,
            )
        )
        return reply

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """The calls answered so far, sorted by (agent, index)."""
        return tuple(sorted(self._records, key=lambda r: (r.call.agent, r.call.index)))

    def release(self) -> None:
        """Nothing is held."""


def _reply(message: _Message, usage: _Usage) -> ChatReply:
    thinking, text = split_thinking(message.content or "")
    return ChatReply(
        text=text,
        thinking=message.reasoning_content or thinking,
        tool_calls=tuple(
            ToolCall(name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
        ),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )

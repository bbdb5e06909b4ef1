"""Agents answered by a server that speaks OpenAI's chat protocol: to evaluate, debug and record.

Such a server takes messages and returns text, so its calls hold no tokens and train nothing.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, cast

from openai import APIError, AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from astuner_gym.chat.messages import ChatCall, ChatReply, ToolCall
from astuner_gym.chat.openai_format import message_to_openai
from astuner_gym.chat.parsers import split_thinking
from astuner_gym.errors import SettingError
from astuner_rl.errors import CallBudgetError, SamplerError
from astuner_rl.types import CallRecord, Completion, EpisodeKey, FinishReason, SamplingParams


class EndpointPolicy:
    """A policy behind an address; one client, shared by all episodes.

    Args:
        base_url: Address of the API, such as ``http://localhost:8000/v1``.
        model: Name that the server knows.
        api_key_env: Environment variable that holds the key; a local server takes any key, so
            an unset variable is no error until the server refuses.
        timeout_s: Seconds that one request may take; failed ones are sent again twice.
    """

    def __init__(
        self, *, base_url: str, model: str, api_key_env: str, timeout_s: float = 120.0
    ) -> None:
        self._model = model
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=os.environ.get(api_key_env) or "none",
            timeout=timeout_s,
            max_retries=2,
        )

    def open(self, key: EpisodeKey, *, params: SamplingParams, max_calls: int) -> EndpointResponder:
        """Return the responder of one episode."""
        return EndpointResponder(self._client, self._model, params=params, max_calls=max_calls)

    async def check(self) -> None:
        """Ask the server for its models, so that a wrong address is found before a run starts.

        Raises:
            SettingError: It does not answer, or refuses.
        """
        try:
            await self._client.with_options(timeout=10.0, max_retries=0).models.list()
        except APIError as error:
            raise SettingError(
                f"sampler.base_url must be the address of a server that answers, got "
                f"{self._client.base_url}: {error}"
            ) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class EndpointResponder:
    """Answers one episode's calls over the network; see ``tracking.tracker.TrackedResponder``."""

    def __init__(
        self, client: AsyncOpenAI, model: str, *, params: SamplingParams, max_calls: int
    ) -> None:
        self._client = client
        self._model = model
        self._params = params
        self._max_calls = max_calls
        self._asked = 0
        self._records: list[CallRecord] = []

    async def respond(self, call: ChatCall) -> ChatReply:
        """Send one call.

        Raises:
            CallBudgetError: The episode has used up ``max_calls``.
            SamplerError: The server did not answer, or refused.
        """
        if self._asked >= self._max_calls:
            raise CallBudgetError(
                f"an episode may make at most {self._max_calls} calls and {call.agent} asks for "
                "one more; raise rollout.max_calls if its workflow needs them"
            )
        self._asked += 1
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [message_to_openai(message) for message in call.messages],
            "temperature": self._params.temperature,
            "max_tokens": self._params.max_tokens,
        }
        if call.tools:
            request["tools"] = list(call.tools)
        try:
            response = cast(ChatCompletion, await self._client.chat.completions.create(**request))
        except APIError as error:
            raise SamplerError(f"the endpoint failed: {error}") from error
        if not response.choices:
            raise SamplerError("the endpoint must return a choice, got none")
        choice = response.choices[0]
        reply = _reply(choice.message)
        if response.usage is not None:
            reply = replace(
                reply,
                prompt_tokens=response.usage.prompt_tokens,
                completion_tokens=response.usage.completion_tokens,
            )
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


def _reply(message: ChatCompletionMessage) -> ChatReply:
    thinking, text = split_thinking(message.content or "")
    return ChatReply(
        text=text,
        thinking=thinking,
        tool_calls=tuple(
            ToolCall(name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
            if call.type == "function"
        ),
    )

"""The context tracker: answers an episode's calls with sampled tokens and keeps an exact log.

Every call of every agent passes through here once. The tracker renders the call's messages to
token ids, taking the stored ids of earlier replies where the messages still hold them unaltered,
has the sampler complete them, parses the completion for the agent, and records both sides.
"""

from __future__ import annotations

from typing import Protocol

from astuner_gym.chat.messages import ChatCall, ChatReply, Responder
from astuner_rl.errors import CallBudgetError
from astuner_rl.rendering.history import ChatHistory
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.samplers.protocol import CompletionSource
from astuner_rl.types import CallRecord, DrawKey, EpisodeKey, SamplingParams


class TrackedResponder(Responder, Protocol):
    """A responder that remembers what it answered."""

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """The calls answered so far, sorted by (agent, index)."""
        ...

    def release(self) -> None:
        """Free what is held for the episode; called once, when it has ended."""
        ...


class Policy(Protocol):
    """Whatever answers agents: opened once an episode."""

    def open(self, key: EpisodeKey, *, params: SamplingParams, max_calls: int) -> TrackedResponder:
        """Return the responder of one episode, good for at most ``max_calls`` calls."""
        ...


class TokenPolicy:
    """A policy of sampled tokens: one renderer and one sampler, shared by all episodes."""

    def __init__(self, *, renderer: ChatRenderer, sampler: CompletionSource, seed: int) -> None:
        self._renderer = renderer
        self._sampler = sampler
        self._seed = seed

    def open(self, key: EpisodeKey, *, params: SamplingParams, max_calls: int) -> ContextTracker:
        """Return a fresh tracker for the episode ``key``."""
        return ContextTracker(
            key=key,
            seed=self._seed,
            renderer=self._renderer,
            sampler=self._sampler,
            params=params,
            max_calls=max_calls,
        )


class ContextTracker:
    """The call log of one episode, and the responder that fills it."""

    def __init__(
        self,
        *,
        key: EpisodeKey,
        seed: int,
        renderer: ChatRenderer,
        sampler: CompletionSource,
        params: SamplingParams,
        max_calls: int,
    ) -> None:
        self._key = key
        self._seed = seed
        self._renderer = renderer
        self._sampler = sampler
        self._params = params
        self._max_calls = max_calls
        self._asked = 0
        self._records: list[CallRecord] = []
        self._histories: dict[str, ChatHistory] = {}

    async def respond(self, call: ChatCall) -> ChatReply:
        """Render, sample, parse and record one call.

        Raises:
            CallBudgetError: The episode has used up ``max_calls``.
            ContextOverflowError: The prompt leaves no room for a reply.
            RenderingError: The chat template refuses the messages.
        """
        if self._asked >= self._max_calls:
            raise CallBudgetError(
                f"an episode may make at most {self._max_calls} calls and {call.agent} asks for "
                "one more; raise rollout.max_calls if its workflow needs them"
            )
        self._asked += 1
        history = self._histories.setdefault(call.agent, ChatHistory(self._renderer))
        prompt = history.render(call)
        completion = await self._sampler.generate(
            prompt.token_ids,
            params=self._params,
            key=DrawKey(seed=self._seed, episode=self._key, agent=call.agent, call=call.index),
        )
        reply = history.record_completion(call, prompt, completion.token_ids)
        self._records.append(
            CallRecord(
                call=call,
                reply=reply,
                prompt_ids=prompt.token_ids,
                completion=completion,
                extends=prompt.extends,
                params=self._params,
            )
        )
        return reply

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """The calls answered so far, sorted by (agent, index)."""
        return tuple(sorted(self._records, key=lambda r: (r.call.agent, r.call.index)))

    def release(self) -> None:
        """Let the sampler forget the episode's caches."""
        self._sampler.release(self._key)

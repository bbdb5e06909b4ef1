"""A frozen model on this machine as the one that a judge asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final, TypeVar

from astuner_gym.chat.messages import ChatMessage, ChatRole
from astuner_gym.chat.parsers import split_thinking
from astuner_gym.errors import BrokenJudgeError, JudgeError, SettingError
from astuner_gym.judging.asking import Answer, Asking
from astuner_gym.judging.endpoint import EndpointConfig
from astuner_rl.errors import (
    BrokenSamplerError,
    NonFiniteLogitsError,
    RenderingError,
    SamplerError,
)
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.types import DrawKey, EpisodeKey, SamplingParams

T = TypeVar("T")

_GROUPS: Final = 64
"""Questions of a group may be answered in one batch, and what they begin with is computed once."""


class LocalJudge:
    """Asks a model in this process; see :class:`astuner_gym.judging.model.JudgeModel`.

    An answer is a function of weights, question and seed, as exactly as the sampler's completions
    are: neither the order of the questions nor what runs beside them changes it.

    What is judged may spell the model's special tokens, such as the end of a turn. They are taken
    apart by a space, so that no text can close its own message and speak in another's name.

    Args:
        sampler: Of the frozen model; is closed with this.
        renderer: Of the same model.
        config: How it is asked.
        name: Of the model, for messages.
        context_length: Tokens of question and answer together, at most.
        seed: Names the draws.

    Raises:
        SettingError: The model's chat template takes no system message.
    """

    def __init__(
        self,
        sampler: Sampler,
        renderer: ChatRenderer,
        config: EndpointConfig,
        *,
        name: str,
        context_length: int,
        seed: int,
    ) -> None:
        self._sampler = sampler
        self._renderer = renderer
        self._config = config
        self._name = name
        self._context_length = context_length
        self._seed = seed
        self._asking = Asking(
            self._answer,
            model=name,
            attempts=config.attempts,
            setting=config.setting("attempts"),
        )
        special = sorted(renderer.codec.special_texts, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, filter(None, special))))
        try:
            self._render(({"role": "system", "content": "a"}, {"role": "user", "content": "b"}))
        except RenderingError as error:
            raise SettingError(
                f"{config.setting('model_path')}={name}: a judge needs a chat template that takes "
                f"a system message, got {error}; use another model"
            ) from error

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
            BrokenJudgeError: The model can answer nobody any more.
            JudgeError: The question does not fit the context, or no usable answer came in so many
                attempts.
        """
        drawn_at = self._config.temperature if temperature is None else temperature
        return await self._asking.ask(messages, parse=parse, temperature=drawn_at)

    async def close(self) -> None:
        """End the sampler."""
        await self._sampler.close()

    async def _answer(self, messages: Sequence[Mapping[str, str]], temperature: float) -> Answer:
        try:
            text = self._render(messages)
            prompt_ids = self._renderer.codec.encode(text)
            self._require_room(len(prompt_ids))
            key = _draw_key(text, seed=self._seed)
            try:
                completion = await self._sampler.generate(
                    prompt_ids,
                    params=SamplingParams(
                        temperature=temperature, max_tokens=self._config.max_tokens
                    ),
                    key=key,
                )
            finally:
                self._sampler.release(key.episode)
        except (BrokenSamplerError, NonFiniteLogitsError) as error:
            raise BrokenJudgeError(f"{self._name} can judge no more: {error}") from error
        except (RenderingError, SamplerError) as error:
            raise JudgeError(f"{self._name} cannot be asked: {error}") from error
        ids = completion.token_ids
        body = ids[:-1] if self._renderer.is_stopped(ids) else ids
        said = split_thinking(self._renderer.codec.decode(body))[1].strip()
        is_cut = completion.finish_reason.is_truncation
        return Answer(said, cut=self._limit(len(ids)) if is_cut else "")

    def _render(self, messages: Sequence[Mapping[str, str]]) -> str:
        return self._renderer.template.render(
            [
                ChatMessage(
                    role=ChatRole(each["role"]),
                    text=self._special.sub(_taken_apart, each["content"]),
                )
                for each in messages
            ],
            (),
            add_generation_prompt=True,
        )

    def _require_room(self, tokens: int) -> None:
        if tokens >= self._context_length:
            raise JudgeError(
                f"a question to {self._name} must leave room for its answer, but has {tokens} "
                f"tokens of {self._context_length}; raise "
                f"{self._config.setting('context_length')}, as far as the model's own, or show "
                "the judge less"
            )

    def _limit(self, sampled: int) -> str:
        config = self._config
        if sampled >= config.max_tokens:
            return f"by {config.setting('max_tokens')}={config.max_tokens}"
        setting = config.setting("context_length")
        return f"where the context of {self._context_length} tokens ends ({setting})"


def _taken_apart(special: re.Match[str]) -> str:
    return f"{special.group()[0]} {special.group()[1:]}"


def _draw_key(prompt: str, *, seed: int) -> DrawKey:
    """Name the draws of an answer by the question alone, whenever and however often it is asked."""
    digest = int.from_bytes(sha256(prompt.encode()).digest()[:8])
    episode = EpisodeKey(phase="judge", step=0, task=digest % _GROUPS, sample=digest)
    return DrawKey(seed=seed, episode=episode, agent="judge", call=0)

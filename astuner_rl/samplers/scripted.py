"""A sampler that answers by script: for tests, and for debugging a run without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from astuner_gym.errors import SettingError
from astuner_rl.errors import SamplerError
from astuner_rl.types import Completion, DrawKey, EpisodeKey, FinishReason, SamplingParams

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """A completion before it is cut to ``max_tokens``."""

    token_ids: Sequence[int]
    """[T] the stop token included."""
    logprobs: Sequence[float] | None = None
    """[T] log-probs to report; None reports 0.0 for every token."""


class ScriptedSampler:
    """Answers every request from a function of prompt and key, so never by order of arrival.

    An answer of more than ``max_tokens`` tokens is cut and finishes by length; any other finishes
    by stop.

    >>> sampler = ScriptedSampler(lambda prompt_ids, key: ScriptedAnswer([7, 8, 2]))
    """

    def __init__(
        self,
        answer: Callable[[Sequence[int], DrawKey], ScriptedAnswer],
        *,
        policy_version: int = 0,
    ) -> None:
        self._answer = answer
        self._policy_version = policy_version
        self._closed = False

    @classmethod
    def from_texts(
        cls, texts: Sequence[str], *, encode: Callable[[str], Sequence[int]]
    ) -> ScriptedSampler:
        """Answer call c of every agent with text c; after the last text, begin again.

        ``encode`` gives a text's tokens, the stop token included.
        """
        if not texts:
            raise SettingError("a script must have >= 1 text, got none; pass what to answer")
        answers = [ScriptedAnswer(tuple(encode(text))) for text in texts]
        return cls(lambda prompt_ids, key: answers[key.call % len(answers)])

    @property
    def policy_version(self) -> int:
        """Version that was loaded last."""
        return self._policy_version

    @property
    def exact(self) -> bool:
        """A script answers the same again."""
        return True

    async def generate(
        self, prompt_ids: Sequence[int], *, params: SamplingParams, key: DrawKey
    ) -> Completion:
        """Answer by script.

        Raises:
            SamplerError: The sampler is closed, or the script gives no token, or log-probs of
                another number than tokens.
        """
        if self._closed:
            raise SamplerError("the sampler is closed; make a new one to go on")
        answer = self._answer(prompt_ids, key)
        token_ids = tuple(answer.token_ids)
        logprobs = (0.0,) * len(token_ids) if answer.logprobs is None else tuple(answer.logprobs)
        if not token_ids or len(logprobs) != len(token_ids):
            raise SamplerError(
                "a scripted answer must have >= 1 token and as many log-probs, got "
                f"{len(token_ids)} and {len(logprobs)}; mend the script for {key}"
            )
        cut = len(token_ids) > params.max_tokens
        return Completion(
            token_ids=token_ids[: params.max_tokens],
            logprobs=logprobs[: params.max_tokens],
            finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
            policy_version=self._policy_version,
        )

    def release(self, episode: EpisodeKey) -> None:
        """Nothing is cached."""

    async def load_weights(
        self, weights: Mapping[str, torch.Tensor], *, version: int, in_flight: bool = False
    ) -> None:
        """Take over the version alone."""
        self._policy_version = version

    async def close(self) -> None:
        """Refuse further requests."""
        self._closed = True

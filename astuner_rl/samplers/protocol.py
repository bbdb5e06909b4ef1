"""The seam between rollouts and whatever turns a prompt into tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from astuner_rl.types import Completion, DrawKey, EpisodeKey, SamplingParams

if TYPE_CHECKING:
    import torch


class CompletionSource(Protocol):
    """What episodes ask of a sampler."""

    async def generate(
        self, prompt_ids: Sequence[int], *, params: SamplingParams, key: DrawKey
    ) -> Completion:
        """Sample one completion; every draw is a function of ``key`` and the token's position.

        Raises:
            ContextOverflowError: The prompt leaves no room for a token.
        """
        ...

    def release(self, episode: EpisodeKey) -> None:
        """Forget whatever is cached for an episode that has ended."""
        ...


class Sampler(CompletionSource, Protocol):
    """Samples completions from one policy, many at a time."""

    @property
    def policy_version(self) -> int:
        """Version of the weights that the next request is sampled with."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the same weights and keys give the same completions again, bit for bit."""
        ...

    async def load_weights(
        self, weights: Mapping[str, torch.Tensor], *, version: int, in_flight: bool = False
    ) -> None:
        """Take over new weights; requests that come meanwhile wait.

        Args:
            weights: Named as in the model's state dict; they may change once this has returned.
                Or adapters, named as in ``astuner_rl.samplers.adapters``, together with what they
                are added to, which never changes; and later adapters alone, added to the same.
            version: Of the new weights.
            in_flight: False lets requests that run end first, with the old weights. True has them
                go on with the new ones, under which their context is computed anew, and notes in
                the completion from which token on.
        """
        ...

    async def close(self) -> None:
        """End every request and free all resources."""
        ...

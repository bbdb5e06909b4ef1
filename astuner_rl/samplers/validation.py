"""What every sampler of a model refuses: settings that do not fit it, and unusable requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from astuner_gym.errors import SettingError
from astuner_rl.errors import ContextOverflowError, SamplerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PretrainedConfig

    from astuner_rl.types import SamplingParams


def check_settings(
    shape: PretrainedConfig, *, context_length: int, token_ids: Sequence[int]
) -> None:
    """Refuse what does not fit the model.

    Args:
        shape: Configuration of the text model.
        context_length: Tokens of prompt and completion together, at most.
        token_ids: Stop and pad tokens.

    Raises:
        SettingError: The context is longer than the model's, or a token not in its vocabulary.
    """
    if context_length > shape.max_position_embeddings:
        raise SettingError(
            f"sampler.context_length must be <= the model's {shape.max_position_embeddings}, got "
            f"{context_length}; set it to {shape.max_position_embeddings} or less"
        )
    outside = [token for token in token_ids if not 0 <= token < shape.vocab_size]
    if outside:
        raise SettingError(
            f"stop and pad tokens must lie in 0..{shape.vocab_size - 1}, got {outside}; take them "
            "from the tokenizer of this model"
        )


def check_request(
    prompt_ids: NDArray[np.int64],
    params: SamplingParams,
    *,
    context_length: int,
    vocab_size: int,
) -> None:
    """Refuse a prompt that cannot be completed.

    Args:
        prompt_ids: [P]
        params: How to complete it.
        context_length: Tokens of prompt and completion together, at most.
        vocab_size: Tokens that there are.

    Raises:
        ContextOverflowError: The prompt leaves no room for a token.
        SamplerError: It is empty or holds no tokens of the model, or the parameters are unusable.
    """
    if len(prompt_ids) >= context_length:
        raise ContextOverflowError(
            f"a prompt must leave room for a token, but has {len(prompt_ids)} tokens of "
            f"{context_length}; raise sampler.context_length or shorten what the agent remembers"
        )
    if len(prompt_ids) == 0:
        raise SamplerError(
            "a prompt must have >= 1 token, got 0; begin it with the model's start token"
        )
    low, high = int(prompt_ids.min()), int(prompt_ids.max())
    if low < 0 or high >= vocab_size:
        raise SamplerError(
            f"prompt tokens must lie in 0..{vocab_size - 1}, got {low}..{high}; "
            "render prompts with the tokenizer of this model"
        )
    if params.max_tokens < 1 or not 0 <= params.temperature < float("inf"):
        raise SamplerError(
            "max_tokens must be >= 1 and temperature finite and >= 0, got "
            f"{params.max_tokens} and {params.temperature}; mend the sampling parameters"
        )

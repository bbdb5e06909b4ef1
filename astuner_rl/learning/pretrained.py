"""A causal language model and its tokenizer, from the Hugging Face hub or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from astuner_gym.errors import UnusableInputError


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A policy's initial weights and the tokenizer that goes with them."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Stop tokens that the model's generation settings name; there may be none."""
        stops = self.model.generation_config.eos_token_id if self.model.generation_config else None
        if stops is None:
            return ()
        return (stops,) if isinstance(stops, int) else tuple(stops)

    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder that ``transformers`` and vLLM load."""
        with _without_progress_bars():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_pretrained(path: str, *, setting: str = "model.path") -> Pretrained:
    """Load model and tokenizer in float32.

    Args:
        path: Hub id or folder.
        setting: Name of the setting that holds it, for messages.

    Raises:
        UnusableInputError: It cannot be loaded, or its tokenizer has no chat template.
    """
    try:
        with _without_progress_bars():
            model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UnusableInputError(
            f"{setting} must be the hub id or folder of a causal language model, got {path!r}: "
            f"{error}"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UnusableInputError(
            f"{setting}={path}: the tokenizer must be a fast one (tokenizer.json), got "
            f"{type(tokenizer).__name__}"
        )
    if tokenizer.chat_template is None:
        raise UnusableInputError(
            f"{setting}={path}: the tokenizer must have a chat template, by which messages become "
            "tokens; use an instruction-tuned model"
        )
    return Pretrained(model, tokenizer)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keep a run's standard error to its own lines; what the user had set comes back."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]

"""Settings of the tiny model."""

from __future__ import annotations

from dataclasses import dataclass

from astuner_gym.errors import SettingError
from astuner_rl.rules import require_range

HEAD_SIZE = 32


@dataclass(kw_only=True)
class TinyConfig:
    """Settings of ``model=tiny``. Not frozen: Hydra refuses overrides of frozen ones."""

    hidden_size: int = 128
    """Width of the model, a multiple of 64: attention has heads of 32 in pairs."""
    layers: int = 3
    """Number of layers."""
    vocab_size: int = 2048
    """Tokens at most; every byte and every number below 1000 take 1254 of them."""
    demonstrations: int = 11_000
    """How many demonstrations the warm start imitates; fewer if the environment has fewer."""
    passes: int = 3
    """How often it sees each while the learning rate falls; it then goes on until held-out accuracy
    is flat, at most as long again."""
    held_out: int = 256
    """How many held-out demonstrations it is measured on."""
    batch_tokens: int = 4096
    """Tokens, padding included, of one optimizer step."""
    seed: int = 0
    """Of initial weights and order."""
    cache: str | None = None
    """Folder of built models; null for ``$ASTUNER_CACHE``, or ``~/.cache/astuner`` without it."""

    def __post_init__(self) -> None:
        if self.hidden_size < 2 * HEAD_SIZE or self.hidden_size % (2 * HEAD_SIZE):
            raise SettingError(
                f"model.hidden_size must be a multiple of {2 * HEAD_SIZE}, got {self.hidden_size}; "
                "set model.hidden_size=128"
            )
        require_range("model.layers", self.layers, low=1)
        require_range("model.demonstrations", self.demonstrations, low=1)
        require_range("model.passes", self.passes, low=1)
        require_range("model.held_out", self.held_out, low=1)
        require_range("model.batch_tokens", self.batch_tokens, low=1)

"""``model=tiny``: a small model with its own tokenizer, built from demonstrations in minutes."""

from astuner_rl.learning.tiny.build import build_tiny
from astuner_rl.learning.tiny.config import TinyConfig

__all__ = ["TinyConfig", "build_tiny"]

"""GSM8K as a Gymnasium environment: ``gymnasium.make("astuner/gsm8k-v0")``."""

from __future__ import annotations

from astuner_envs.gsm8k.config import Gsm8kConfig
from astuner_gym.adapters.gymnasium import GymnasiumEnv


def make() -> GymnasiumEnv:
    """Return the environment with its default settings: text to see, text to answer."""
    return GymnasiumEnv(Gsm8kConfig().build())

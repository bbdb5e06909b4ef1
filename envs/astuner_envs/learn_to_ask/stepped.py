"""Learn to ask as a Gymnasium environment: ``gymnasium.make("astuner/learn_to_ask-v0")``."""

from __future__ import annotations

from astuner_envs.learn_to_ask.config import LearnToAskConfig
from astuner_gym.adapters.gymnasium import GymnasiumEnv


def make() -> GymnasiumEnv:
    """Return the environment with its default settings: text to see, text to answer."""
    return GymnasiumEnv(LearnToAskConfig().build())

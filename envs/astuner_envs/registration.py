"""Gymnasium ids of the environments, found by ``gymnasium.make`` through an entry point.

Gymnasium loads this module while it is itself being imported, so nothing here imports the rest of
Gymnasium or an environment.
"""

from __future__ import annotations

from gymnasium.envs import registration


def register() -> None:
    """Register the environments; Gymnasium calls it inside the namespace ``astuner``."""
    registration.register(id="gsm8k-v0", entry_point="astuner_envs.gsm8k.stepped:make")

"""Werewolves: a game of hidden roles, by seven players or nine."""

from astuner_envs.werewolves.config import WerewolvesConfig

__all__ = ["WerewolvesConfig"]

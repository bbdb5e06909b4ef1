"""AppWorld: an AgentScope agent writes code that uses the APIs of apps on a person's behalf."""

from astuner_envs.appworld.config import AppWorldConfig

__all__ = ["AppWorldConfig"]

"""GSM8K: an AgentScope agent with a calculator solves grade-school word problems."""

from astuner_envs.gsm8k.config import Gsm8kConfig

__all__ = ["Gsm8kConfig"]

"""Learn to ask: an AgentScope agent asks one good question after a dialogue, or stops."""

from astuner_envs.learn_to_ask.config import LearnToAskConfig

__all__ = ["LearnToAskConfig"]

"""Settings of rollouts."""

from __future__ import annotations

from dataclasses import dataclass

from astuner_rl.rules import require_positive, require_range
from astuner_rl.types import SamplingParams


@dataclass
class RolloutConfig:
    """How episodes are run."""

    temperature: float = 1.0
    """Divides the logits when training episodes are sampled; 0 is greedy."""
    max_tokens: int = 256
    """Tokens of one reply, at most."""
    concurrency: int = 256
    """Episodes in flight at once, at most; of training no more than a batch has."""
    attempts: int = 2
    """How often an episode is run before its failure counts."""
    max_calls: int = 256
    """Calls of an episode, of all agents that the policy plays; one more truncates it."""
    deadline_s: float = 600.0
    """Seconds of wall-clock after which an attempt fails. Depends on the machine's load, so a
    run in which it fired is marked ``run/exact`` = false."""

    def __post_init__(self) -> None:
        require_range("rollout.temperature", self.temperature, low=0.0)
        require_range("rollout.max_tokens", self.max_tokens, low=1)
        require_range("rollout.concurrency", self.concurrency, low=1)
        require_range("rollout.attempts", self.attempts, low=1)
        require_range("rollout.max_calls", self.max_calls, low=1)
        require_positive("rollout.deadline_s", self.deadline_s, finite=False)

    @property
    def params(self) -> SamplingParams:
        """How training episodes are sampled."""
        return SamplingParams(temperature=self.temperature, max_tokens=self.max_tokens)

"""The one thing that a user writes: a workflow, an ordinary coroutine over chat models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agentscope.model import ChatModelBase

from astuner_gym.task import JsonValue, Task


class Models(Protocol):
    """The chat models of one episode, one per agent, made when first asked for."""

    def __getitem__(self, agent: str, /) -> ChatModelBase:
        """Return the model of ``agent``, whose role is its own name."""
        ...

    def for_role(self, agent: str, *, role: str) -> ChatModelBase:
        """Return the model of ``agent``, rewarded and trained as one of ``role``."""
        ...

    def reward(self, agent: str, amount: float) -> None:
        """Give ``agent`` a reward that falls now, beside what the judge gives at the end.

        It counts for the agent's latest call, or its first if it has made none yet. The judge must
        give the agent a reward as well, be it 0.
        """
        ...

    def leave(self, agent: str) -> None:
        """Let ``agent`` leave the episode: it makes no further call. Its reward stays its own."""
        ...

    def accept_limit(self) -> None:
        """Take a limit that has refused a call as the episode's end, in ``except
        EpisodeLimitError``: what the workflow returns is judged, and no further call can be made.

        For workflows that know what was reached by then. Return it as not truncated if the judge
        pays for it in full: learners add an estimate of what was still to come to the rewards of a
        truncated episode.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResult:
    """What an episode came to, before it is judged."""

    output: JsonValue
    """Whatever the judge needs: the final answer, a game's outcome, …"""
    truncated: bool = False
    """True if a limit cut the episode short: its future is unknown, not lost."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Figures of the workflow's own, averaged over episodes into ``workflow/<name>``."""


class Workflow(Protocol):
    """An agent program: any AgentScope code whose models come from ``models``."""

    async def run(self, task: Task, models: Models) -> WorkflowResult: ...

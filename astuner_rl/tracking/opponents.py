"""Agents that do not learn, answered by another policy than the one that is trained.

A call goes by its agent's role. What the opponent answers is no token of the policy: it is not in
the call log, is not trained and needs no reason for that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_rl.tracking.tracker import Policy, TrackedResponder
from astuner_rl.types import CallRecord, EpisodeKey, SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyWithOpponent:
    """A policy for the roles that learn, and another one for all others."""

    policy: Policy
    opponent: Policy
    trainable: Collection[str]
    """Roles that the policy plays."""

    def open(
        self, key: EpisodeKey, *, params: SamplingParams, max_calls: int
    ) -> ResponderWithOpponent:
        """Return the responder of one episode; each side may make ``max_calls``."""
        return ResponderWithOpponent(
            self.policy.open(key, params=params, max_calls=max_calls),
            self.opponent.open(key, params=params, max_calls=max_calls),
            trainable=self.trainable,
        )


class ResponderWithOpponent:
    """Answers one episode's calls by the agent's role."""

    def __init__(
        self,
        learner: TrackedResponder,
        opponent: TrackedResponder,
        *,
        trainable: Collection[str],
    ) -> None:
        self._learner = learner
        self._opponent = opponent
        self._trainable = trainable

    async def respond(self, call: ChatCall) -> ChatReply:
        """Return the reply of whoever plays the call's role."""
        answering = self._learner if call.role in self._trainable else self._opponent
        return await answering.respond(call)

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """The calls of roles that learn, sorted by (agent, index)."""
        return self._learner.records

    def release(self) -> None:
        """Free what either side holds for the episode."""
        self._learner.release()
        self._opponent.release()

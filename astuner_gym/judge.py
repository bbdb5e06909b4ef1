"""Judges: what an episode was worth to each of its agents."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Protocol, TypeAlias

from astuner_gym.errors import JudgeError, UnusableInputError
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult


@dataclass(frozen=True, slots=True)
class GivenReward:
    """A reward that a workflow gave while it ran."""

    agent: str
    amount: float
    call: int
    """Index among the agent's answered calls of the one that it counts for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Rewards of one episode."""

    rewards: Mapping[str, float]
    """Reward per agent; the key ``*`` stands for every agent that is not named."""
    success: bool
    """Whether the episode counts as solved: what accuracy and pass@k count."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further figures, averaged over episodes into ``judge/<name>``."""
    call_rewards: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What of an agent's reward fell with each of its calls, in their order; later calls than are
    listed earned nothing, and what is left of the reward falls with the last call, as all of it
    does for an agent that is not named."""

    def reward(self, agent: str) -> float:
        """Return the reward of ``agent``.

        Raises:
            JudgeError: Neither the agent nor ``*`` has a finite reward.
        """
        value = self.rewards.get(agent, self.rewards.get("*", math.nan))
        if not is_finite(value):
            raise JudgeError(
                f"each agent needs a finite reward, got {value!r} for {agent!r} "
                f"from rewards {dict(self.rewards)}; name the agent or add '*'"
            )
        return float(value)

    def with_given(self, given: Sequence[GivenReward], *, calls: Mapping[str, int]) -> Score:
        """Return this score with what the workflow itself gave added, each to its call.

        Args:
            given: What the workflow gave.
            calls: Number of calls by agent.

        Raises:
            JudgeError: An agent was given a reward and has none here, or one is no finite number.
        """
        if not given:
            return self
        rewards = dict(self.rewards)
        by_call: dict[str, Sequence[float]] = dict(self.call_rewards)
        judged = self.rewards_by_call(calls=calls)
        for agent in dict.fromkeys(gift.agent for gift in given):
            made = calls.get(agent, 0)
            earned = [*judged.get(agent, [0.0] * made)]
            total = self.reward(agent)
            for gift in given:
                if gift.agent == agent:
                    total += gift.amount
                    if made:
                        earned[gift.call] += gift.amount
            rewards[agent] = total
            if made:
                by_call[agent] = earned
        return replace(self, rewards=rewards, call_rewards=by_call)

    def rewards_by_call(self, *, calls: Mapping[str, int]) -> dict[str, tuple[float, ...]]:
        """Return, for each agent in ``call_rewards`` that made calls, what fell with each of them.

        What is left of its reward is not among it. Example: of 3 calls ``[.25]`` gives
        ``(.25, 0., 0.)``.

        Args:
            calls: Number of calls by agent.

        Raises:
            JudgeError: A reward is no finite number, or belongs to a call that was not made.
        """
        rewards = {}
        for agent, earned in self.call_rewards.items():
            made = calls.get(agent, 0)
            # A user's judge may have put anything there, whatever the annotation says.
            if not isinstance(earned, (list, tuple)) or not all(map(is_finite, earned)):
                raise JudgeError(
                    f"call_rewards must hold a list of finite numbers for each agent, got "
                    f"{earned!r} for {agent!r}; give a number for each of its calls"
                )
            if len(earned) > made:
                raise JudgeError(
                    f"each reward must belong to a call, got {len(earned)} rewards for {agent!r}, "
                    f"which made {made} calls; give at most one for each, by the agent's name"
                )
            if made:
                rewards[agent] = (*map(float, earned), *[0.0] * (made - len(earned)))
        return rewards


def is_finite(value: object) -> bool:
    """Return whether the value is a number, and neither infinite nor NaN."""
    # A user's judge may have put anything there, whatever the annotation says.
    return isinstance(value, Real) and math.isfinite(value)


class Judge(Protocol):
    """Scores finished episodes."""

    async def score(self, task: Task, result: WorkflowResult) -> Score: ...


class GroupJudge(Protocol):
    """Scores the finished episodes of one task by comparing them with each other."""

    async def score_group(self, task: Task, results: Sequence[WorkflowResult]) -> Sequence[Score]:
        """Return a score for each result, in their order.

        Raises:
            JudgeError: They cannot be compared: all episodes of the group are dropped.
        """
        ...


Verdict: TypeAlias = Score | float | bool | int
JudgeFunction: TypeAlias = Callable[[Task, WorkflowResult], Verdict | Awaitable[Verdict]]


class FunctionJudge:
    """A judge from a plain function of (task, result): returns a number or a :class:`Score`.

    A number is the reward of every agent, and a positive one counts as success.
    """

    def __init__(self, function: JudgeFunction) -> None:
        self._function = function

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Call the function.

        Raises:
            JudgeError: It raised, or returned something that is no verdict.
            UnusableInputError: The task's data is at fault.
        """
        try:
            verdict = self._function(task, result)
            if inspect.isawaitable(verdict):
                verdict = await verdict
        except (JudgeError, UnusableInputError):
            raise
        except Exception as error:  # a user's function may raise anything; it is named and kept
            raise JudgeError(f"judge raised on task {task.id}: {error!r}") from error
        if isinstance(verdict, Score):
            return verdict
        if isinstance(verdict, (bool, int, float)) and math.isfinite(verdict):
            return Score(rewards={"*": float(verdict)}, success=verdict > 0)
        raise JudgeError(
            f"a judge must return a finite number or a Score, got {verdict!r} on task {task.id}"
        )

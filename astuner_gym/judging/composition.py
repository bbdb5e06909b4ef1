"""Judges made of judges: weighted sums, gates, and parts that count for some agents only.

Every part is logged by its name: its reward as ``judge/<part>``, or ``judge/<part>/<agent>`` where
agents earned different ones, and its own figures as ``judge/<part>/<figure>``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from astuner_gym.errors import JudgeError, SettingError
from astuner_gym.judge import Judge, Score
from astuner_gym.judging.asking import all_of
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult

ALL = "*"
"""Stands for every agent that is not named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A judge's place in a sum."""

    judge: Judge
    weight: float = 1.0
    agents: Collection[str] | None = None
    """Agents for whom it counts; None for all."""
    least: float | None = None
    """Makes it a gate: an agent to whom it gives less gets nothing from any part, and only
    ``WeightedSum.closed``."""


class WeightedSum:
    """Adds up what its parts give to each agent.

    Gates are asked first, and if one is closed to all agents no other part is asked: what it would
    have cost, such as a model's answer, is saved. Of such an episode the other parts have no
    figures.

    Args:
        parts: By name; asked concurrently.
        success: Name of the part that says whether an episode is solved; the first if None. With a
            closed gate no episode is.
        closed: Reward of an agent to whom a gate is closed.
    """

    def __init__(
        self, parts: Mapping[str, Part], *, success: str | None = None, closed: float = 0.0
    ) -> None:
        if not parts:
            raise SettingError("a judge must have at least one part, got none; name one")
        names = list(parts)
        self._success = names[0] if success is None else success
        if self._success not in parts:
            raise SettingError(
                f"success must name one of the parts {names}, got {success!r}; name one of them"
            )
        self._parts = dict(parts)
        self._closed = closed

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Return the sum.

        Raises:
            JudgeError: A part failed, or gives an agent whom another part names no reward.
            UnusableInputError: The task's data is at fault.
        """
        gates = {name: part for name, part in self._parts.items() if part.least is not None}
        scores = await self._scores(gates, task, result)
        shut_to_all = any(_closed_to_all(gates[name], score) for name, score in scores.items())
        metrics = {"gate": float(not shut_to_all)} if gates else {}
        if shut_to_all:
            named = {agent for score in scores.values() for agent in score.rewards}
            return Score(
                rewards=dict.fromkeys(sorted({*named, ALL}), self._closed),
                success=False,
                metrics=metrics | _figures(scores),
            )
        rest = {name: part for name, part in self._parts.items() if part.least is None}
        scores |= await self._scores(rest, task, result)
        weighed = [(self._parts[name], score) for name, score in scores.items()]
        agents = _agents(weighed)
        shut_to = {
            agent
            for agent in agents
            for part, score in weighed
            if part.least is not None and _counts(part, agent) and score.reward(agent) < part.least
        }
        return Score(
            rewards={
                agent: self._closed if agent in shut_to else _sum(agent, weighed)
                for agent in agents
            },
            success=scores[self._success].success and not shut_to,
            metrics=metrics | _figures(scores),
            call_rewards={
                agent: earned for agent, earned in _by_call(weighed).items() if agent not in shut_to
            },
        )

    async def _scores(
        self, parts: Mapping[str, Part], task: Task, result: WorkflowResult
    ) -> dict[str, Score]:
        scores = await all_of(part.judge.score(task, result) for part in parts.values())
        return dict(zip(parts, scores, strict=True))


class PerAgent:
    """Judges each agent's own output: the workflow's must be an object of outputs by agent.

    Args:
        judge: Scores one agent's output as if it were the episode's.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def score(self, task: Task, result: WorkflowResult) -> Score:
        """Return each agent's score; the episode is solved if each agent's is.

        An episode that was cut short before it had an output is judged as one output for all.

        Raises:
            JudgeError: A score fails, or the output is no object of outputs by agent.
        """
        if result.output is None and result.truncated:
            return await self._judge.score(task, result)
        if not isinstance(result.output, Mapping) or not result.output:
            raise JudgeError(
                "a judge of each agent needs a workflow whose output is an object of outputs by "
                f"agent, got {result.output!r}; return one, or judge the episode as a whole"
            )
        agents = list(result.output)
        scores = await all_of(
            self._judge.score(task, replace(result, output=result.output[agent]))
            for agent in agents
        )
        by_agent = dict(zip(agents, scores, strict=True))
        return Score(
            rewards={agent: score.reward(agent) for agent, score in by_agent.items()},
            success=all(score.success for score in scores),
            metrics={
                f"{name}/{agent}": value
                for agent, score in by_agent.items()
                for name, value in score.metrics.items()
            },
        )


def _counts(part: Part, agent: str) -> bool:
    return part.agents is None or agent in part.agents


def _closed_to_all(gate: Part, score: Score) -> bool:
    assert gate.least is not None
    return gate.agents is None and all(score.reward(agent) < gate.least for agent in score.rewards)


def _agents(weighed: Sequence[tuple[Part, Score]]) -> list[str]:
    """Return whom the sum can name: those whom a part names, and ``*`` if no part lacks it."""
    named = {agent for part, score in weighed for agent in (*score.rewards, *(part.agents or ()))}
    if all(ALL in score.rewards for part, score in weighed if part.agents is None):
        return sorted({*named, ALL})
    return sorted(named - {ALL})


def _sum(agent: str, weighed: Sequence[tuple[Part, Score]]) -> float:
    return sum(part.weight * score.reward(agent) for part, score in weighed if _counts(part, agent))


def _by_call(weighed: Sequence[tuple[Part, Score]]) -> dict[str, Sequence[float]]:
    summed: dict[str, Sequence[float]] = {}
    for part, score in weighed:
        for agent, earned in score.call_rewards.items():
            if _counts(part, agent):
                summed[agent] = [
                    before + part.weight * each
                    for before, each in zip_longest(summed.get(agent, ()), earned, fillvalue=0.0)
                ]
    return summed


def _figures(scores: Mapping[str, Score]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, score in scores.items():
        if list(score.rewards) == [ALL]:
            figures[name] = score.reward(ALL)
        else:
            figures |= {f"{name}/{agent}": score.reward(agent) for agent in score.rewards}
        figures |= {f"{name}/{figure}": value for figure, value in score.metrics.items()}
    return figures

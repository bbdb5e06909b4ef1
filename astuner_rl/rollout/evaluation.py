"""Evaluation: how a policy does on held-out tasks, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from astuner_gym.task import Task
from astuner_rl.rollout.groups import collect_groups
from astuner_rl.rollout.runner import Runner
from astuner_rl.tracing.intervals import Interval, bootstrap_interval, wilson_interval
from astuner_rl.tracing.pass_at_k import pass_at_k
from astuner_rl.types import Episode, EpisodeStatus, Group, SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Episodes of held-out tasks, and what they come to."""

    groups: tuple[Group, ...]
    """One a task, in the order of the tasks."""
    seed: int
    """Names the draws of the bootstrap."""
    scenarios: tuple[str, ...] | None = None
    """Of each group, the scenario of which its task is a variant; None if each is its own."""

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """All episodes, by task and sample."""
        return tuple(episode for group in self.groups for episode in group.episodes)

    def accuracy(self) -> Interval | None:
        """Return the share of episodes that succeeded; None if every episode failed.

        Episodes of one task are no independent observations: with several a task the interval is
        a bootstrap over tasks, with one it is Wilson's.
        """
        return self._interval_or_none(
            [[float(e.success) for e in episodes] for episodes in self._scored()]
        )

    def scenario_accuracy(self) -> Interval | None:
        """Return the share of scenarios all of whose variants were solved by episodes of one sample
        number; None if tasks are no variants.

        A scenario of which fewer variants were played than of others, or of which an episode
        failed, is left out.
        """
        if self.scenarios is None:
            return None
        variants: dict[str, list[Group]] = {}
        for scenario, group in zip(self.scenarios, self.groups, strict=True):
            variants.setdefault(scenario, []).append(group)
        whole = max(map(len, variants.values()), default=0)
        return self._interval_or_none(
            [
                solved
                for groups in variants.values()
                if len(groups) == whole and (solved := _solved_together(groups))
            ]
        )

    def reward(self) -> Interval | None:
        """Return the mean reward over agents, episodes and tasks; None if every episode failed."""
        return self._over_tasks(
            [
                fmean(reward for episode in episodes for reward in episode.rewards.values())
                for episodes in self._scored()
                if any(episode.rewards for episode in episodes)
            ]
        )

    def pass_at(self, k: int) -> Interval | None:
        """Return pass@k over the tasks of which at least ``k`` episodes did not fail."""
        return self._over_tasks(
            [
                pass_at_k(attempts=len(episodes), successes=sum(e.success for e in episodes), k=k)
                for episodes in self._scored()
                if len(episodes) >= k
            ]
        )

    def metrics(self, name: str) -> dict[str, float | int | bool]:
        """Return the figures ``<name>/accuracy``, ``<name>/reward``, … with their intervals.

        Those of workflow and judge are among them, such as ``<name>/judge/win/werewolf``.
        """
        episodes = self.episodes
        failed = sum(episode.status is EpisodeStatus.FAILED for episode in episodes)
        metrics: dict[str, float | int | bool] = {
            f"{name}/episodes": len(episodes),
            f"{name}/dropped": failed,
        }
        for figure, interval in {
            "accuracy": self.accuracy(),
            "scenario_accuracy": self.scenario_accuracy(),
            "reward": self.reward(),
        }.items():
            if interval is not None:
                metrics |= interval.metrics(f"{name}/{figure}")
        for figure, interval in self.figures().items():
            metrics |= interval.metrics(f"{name}/{figure}")
        return metrics

    def figures(self) -> dict[str, Interval]:
        """Return the mean of each figure of workflow and judge over the tasks that have it."""
        scored = self._scored()
        names = sorted({name for episodes in scored for e in episodes for name in e.metrics})
        intervals = {}
        for name in names:
            found = [
                [episode.metrics[name] for episode in episodes if name in episode.metrics]
                for episodes in scored
            ]
            intervals[name] = self._interval([values for values in found if values])
        return intervals

    def _scored(self) -> list[list[Episode]]:
        """Return each task's episodes that did not fail, without the tasks that have none."""
        scored = [
            [e for e in group.episodes if e.status is not EpisodeStatus.FAILED]
            for group in self.groups
        ]
        return [episodes for episodes in scored if episodes]

    def _interval(self, by_task: Sequence[Sequence[float]]) -> Interval:
        """Return the mean over tasks of each task's mean; of one share a task, Wilson's."""
        if all(len(values) == 1 and values[0] in (0, 1) for values in by_task):
            successes = sum(int(values[0]) for values in by_task)
            return wilson_interval(successes=successes, trials=len(by_task))
        return bootstrap_interval([fmean(values) for values in by_task], seed=self.seed)

    def _interval_or_none(self, by_task: Sequence[Sequence[float]]) -> Interval | None:
        return self._interval(by_task) if by_task else None

    def _over_tasks(self, values: Sequence[float]) -> Interval | None:
        return bootstrap_interval(values, seed=self.seed) if values else None


def _solved_together(groups: Sequence[Group]) -> list[float]:
    """Return by sample number, as 0 or 1, whether its episodes of all groups succeeded.

    A number of which one of them failed is left out.
    """
    return [
        float(all(episode.success for episode in episodes))
        for episodes in zip(*(group.episodes for group in groups), strict=True)
        if all(episode.status is not EpisodeStatus.FAILED for episode in episodes)
    ]


async def evaluate(
    runner: Runner,
    tasks: Sequence[Task],
    *,
    name: str,
    step: int,
    samples: int,
    params: SamplingParams,
    seed: int,
) -> Evaluation:
    """Run ``samples`` episodes of every task in the phase ``eval/<name>``.

    Args:
        runner: Runs each episode.
        tasks: The held-out tasks.
        name: Of the set of tasks.
        step: Number of updates that the policy has seen.
        samples: Episodes of each task.
        params: How their completions are drawn.
        seed: Names the draws of the bootstrap.
    """
    groups = await collect_groups(
        runner,
        tasks,
        phase=f"eval/{name}",
        step=step,
        samples=samples,
        params=params,
    )
    field = runner.environment.scenario
    return Evaluation(
        groups=tuple(groups),
        seed=seed,
        scenarios=None if field is None else tuple(task.text(field) for task in tasks),
    )

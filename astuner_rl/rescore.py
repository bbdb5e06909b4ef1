"""Judge a finished run with another judge, and see what would have been rewarded otherwise.

``python -m astuner_rl.rescore run=<folder> judge=…`` reads every episode that the run has kept,
scores it anew, and prints how rewards, successes and the order within groups would change: the
order is what training by groups learns from. Nothing is trained and the run is left as it was.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from astuner_gym.environment import Environment
from astuner_gym.episode import judge_result
from astuner_gym.errors import BrokenJudgeError, JudgeError, SettingError, UnusableInputError
from astuner_gym.task import Task, TaskSource
from astuner_rl.assembly import build_environment
from astuner_rl.command import run_command
from astuner_rl.composition import compose_experiment
from astuner_rl.config import ExperimentConfig
from astuner_rl.errors import RunAbortedError
from astuner_rl.evaluate import with_run
from astuner_rl.judges import open_judge, with_judge
from astuner_rl.rollout.rejudging import dropped, judge_group, rejudged
from astuner_rl.tracing.episode_log import read_episodes
from astuner_rl.tracing.run_folder import open_run_folder
from astuner_rl.types import Episode, EpisodeStatus

_JUDGE_GROUP = "judge"


@dataclass(slots=True)
class Change:
    """What another judge makes of the episodes of a phase."""

    before: list[float] = field(default_factory=list)
    """Reward of each agent in each episode that both judges have scored."""
    after: list[float] = field(default_factory=list)
    """The same by the other judge."""
    episodes: int = 0
    """Episodes that both judges have scored."""
    solved_before: int = 0
    solved_after: int = 0
    solved_otherwise: int = 0
    """Episodes of which the judges do not agree whether they are solved."""
    dropped: int = 0
    """Episodes that the other judge cannot score."""
    unlike: int = 0
    """Pairs of episodes of a group to which one of the judges gives unlike rewards."""
    reordered: int = 0
    """Of these, the pairs to which the other judge gives equal rewards or the reverse order."""

    def figures(self) -> dict[str, float | int]:
        """Return it as numbers by name."""
        figures: dict[str, float | int] = {"episodes": self.episodes, "dropped": self.dropped}
        if self.episodes:
            figures |= {
                "reward_before": fmean(self.before),
                "reward_after": fmean(self.after),
                "success_before": self.solved_before / self.episodes,
                "success_after": self.solved_after / self.episodes,
                "success_changed": self.solved_otherwise / self.episodes,
            }
        if self.unlike:
            figures["pairs_reordered"] = self.reordered / self.unlike
        return figures

    def add(self, before: Sequence[Episode], after: Sequence[Episode]) -> None:
        """Count a group's episodes as they were and as they would be."""
        both = [
            (old, new)
            for old, new in zip(before, after, strict=True)
            if old.status is not EpisodeStatus.FAILED
        ]
        scored = [(old, new) for old, new in both if new.status is not EpisodeStatus.FAILED]
        self.dropped += len(both) - len(scored)
        for old, new in scored:
            self.episodes += 1
            self.before += old.rewards.values()
            self.after += (new.rewards[agent] for agent in old.rewards)
            self.solved_before += old.success
            self.solved_after += new.success
            self.solved_otherwise += old.success is not new.success
        for (old, new), (other_old, other_new) in itertools.combinations(scored, 2):
            for agent in old.rewards.keys() & other_old.rewards.keys():
                was = _sign(old.rewards[agent] - other_old.rewards[agent])
                would_be = _sign(new.rewards[agent] - other_new.rewards[agent])
                self.unlike += was != 0 or would_be != 0
                self.reordered += was != would_be


def main(arguments: Sequence[str]) -> int:
    """Run the command line; see :class:`astuner_rl.command.ExitStatus`."""
    judge = [each for each in arguments if _is_of_judge(each)]
    others = [each for each in arguments if not _is_of_judge(each)]
    command = partial(rescore, judge=judge)
    return run_command(command, with_run(others), name="rescore", judge=judge)


def _is_of_judge(argument: str) -> bool:
    key = argument.partition("=")[0].lstrip("+")
    return key == _JUDGE_GROUP or key.startswith(f"{_JUDGE_GROUP}.")


def rescore(config: ExperimentConfig, *, judge: Sequence[str]) -> None:
    """Print what another judge makes of a run's episodes; the last line is JSON.

    Args:
        config: Settings of the run.
        judge: Settings of the other judge, as on the command line.

    Raises:
        UnusableInputError: There is no such run, it has no results to judge, or a task is gone.
        RunAbortedError: The other judge scored none of them.
    """
    if config.run.resume is None:
        raise SettingError("rescore needs a run; give it run=<folder>")
    if not judge:
        raise SettingError(
            "rescore needs another judge than the run's; give it judge=…, such as "
            "judge=rubric judge.path=rubric.yaml"
        )
    # Composed apart: a run that goes on keeps its judge, and these settings are of another kind.
    other = replace(config, judge=compose_experiment(judge).judge)
    folder = open_run_folder(Path(config.run.resume), cwd=Path.cwd())
    with closing(build_environment(config)) as environment:
        changes = asyncio.run(_changes(folder.episode_files(), environment, other))
    if not any(change.episodes for change in changes.values()):
        raise RunAbortedError(
            f"at least one episode must be scored, none of those in {folder.episodes} was"
        )
    figures = {phase: change.figures() for phase, change in changes.items()}
    _print_table(figures)
    print(json.dumps(figures))


async def _changes(
    logs: Sequence[Path], environment: Environment, config: ExperimentConfig
) -> dict[str, Change]:
    judge = open_judge(config)
    try:
        await judge.check()
        return await _judged_anew(logs, with_judge(environment, config, judge.model))
    finally:
        await judge.close()


async def _judged_anew(logs: Sequence[Path], environment: Environment) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    tasks = _Tasks(environment)
    for log in logs:
        episodes = [logged.episode for logged in read_episodes(log)]
        groups = list(_groups(episodes))
        judged = await asyncio.gather(*(_judged(environment, tasks, each, log) for each in groups))
        for group, again in zip(groups, judged, strict=True):
            changes.setdefault(group[0].key.phase, Change()).add(group, again)
    return changes


def _groups(episodes: Sequence[Episode]) -> Iterator[tuple[Episode, ...]]:
    """Yield the groups of a log, whose episodes were written in their order."""
    for _, group in itertools.groupby(episodes, key=lambda each: each.key.task):
        yield tuple(group)


async def _judged(
    environment: Environment, tasks: _Tasks, group: Sequence[Episode], log: Path
) -> Sequence[Episode]:
    ended = [each for each in group if each.status is not EpisodeStatus.FAILED]
    if not ended:
        return group
    if any(each.result is None for each in ended):
        raise UnusableInputError(
            f"{log}: an episode of task {group[0].task_id} holds no result to judge: the run is of "
            "an earlier version, or its workflow returned what JSON cannot hold"
        )
    task = tasks.find(group[0].task_id, phase=group[0].key.phase)
    if environment.group_judge is not None and group[0].key.phase == "train":
        return await judge_group(environment.group_judge, task, group)
    return await asyncio.gather(*(_rejudged(environment, task, each) for each in group))


async def _rejudged(environment: Environment, task: Task, episode: Episode) -> Episode:
    if episode.result is None:
        return episode
    try:
        score = await judge_result(environment.judge, task, episode.result)
        return rejudged(episode, score)
    except BrokenJudgeError:
        raise  # it would drop all that are left, which says nothing about the other judge
    except JudgeError as error:
        return dropped(episode, f"{type(error).__name__}: {error}")


class _Tasks:
    """Finds an environment's tasks by their ids."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._indices: dict[str, dict[str, int]] = {}

    def find(self, task_id: str, *, phase: str) -> Task:
        """Return a task of the source that a phase draws from.

        Raises:
            UnusableInputError: The source holds no such task.
        """
        source = self._source(phase)
        # Most sources number their tasks: then one look is enough.
        digits = task_id.rpartition("-")[2]
        if digits.isdecimal() and int(digits) < len(source):
            task = source[int(digits)]
            if task.id == task_id:
                return task
        if phase not in self._indices:
            self._indices[phase] = {source[i].id: i for i in range(len(source))}
        try:
            return source[self._indices[phase][task_id]]
        except KeyError:
            raise UnusableInputError(
                f"the run's environment must still have its tasks, {task_id!r} of {phase!r} is "
                "gone; put the task file back as it was"
            ) from None

    def _source(self, phase: str) -> TaskSource:
        if phase == "train":
            return self._environment.train_tasks
        name = phase.removeprefix("eval/")
        sets = self._environment.eval_tasks
        if name not in sets:
            raise UnusableInputError(
                f"the run's environment must still have the held-out set {name!r}, it has "
                f"{sorted(sets)}"
            )
        return sets[name]


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _print_table(figures: Mapping[str, Mapping[str, float | int]]) -> None:
    table = Table("phase", "figure", "value")
    for phase, values in figures.items():
        for name, value in values.items():
            shown = f"{value}" if isinstance(value, int) else f"{value:.3f}"
            table.add_row(phase, name.replace("_", " "), shown)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

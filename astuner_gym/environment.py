"""An environment's parts in one record, and the registry by which runs find them by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from astuner_gym.chat.messages import Conversation
from astuner_gym.errors import SettingError
from astuner_gym.judge import GroupJudge, Judge
from astuner_gym.judging.model import JudgeModel
from astuner_gym.task import TaskSource
from astuner_gym.typed import TypedTasks
from astuner_gym.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonstrationSets:
    """Conversations to imitate, each made when asked for."""

    train: Iterable[Conversation]
    """May contain errors, at a rate that the environment states."""
    held_out: Iterable[Conversation]
    """Without errors and of held-out tasks: to measure how well imitation has gone."""


class Services(Protocol):
    """Processes that episodes need; :class:`astuner_gym.services.pool.ServicePool` is one kind.

    They start when an episode first needs them.
    """

    def log_to(self, folder: Path) -> None:
        """Have what they write kept in a folder, unless they were given another."""
        ...

    def close(self) -> None:
        """End them; no episode can follow. To end them twice is no error."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A workflow, its judge and its tasks: all that a run needs to know of them."""

    name: str
    workflow: Workflow
    judge: Judge
    train_tasks: TaskSource
    eval_tasks: Mapping[str, TaskSource] = field(default_factory=dict)
    """Held-out tasks by set name; the first set is what ``eval/accuracy`` reports."""
    demonstrations: DemonstrationSets | None = None
    """Conversations to imitate before training by reward; None if there are none."""
    group_judge: GroupJudge | None = None
    """Rewards training episodes by comparison with the others of their task, in place of ``judge``,
    which then says only whether they are solved and judges what is held out; None to compare
    none."""
    judge_by_model: Callable[[JudgeModel], Judge] | None = None
    """Makes the environment's own judge that asks a language model, which ``judge=llm`` uses; None
    if the general one is to be used."""
    typed: TypedTasks | None = None
    """How a line that is typed into ``astuner play`` becomes a task; None if it takes the place of
    the first text in a task's record."""
    agents: tuple[str, ...] = ()
    """Every agent that may act in some episode, for libraries that must know beforehand; empty if
    that is not known."""
    services: tuple[Services, ...] = ()
    """What the workflow needs besides: a run keeps their logs and ends them with itself."""
    scenario: str | None = None
    """Field of a task's record that names its scenario, of which it is one variant; an evaluation
    then reports ``scenario_accuracy``, the share of scenarios all of whose variants are solved.
    None if each task is its own."""

    def log_to(self, folder: Path) -> None:
        """Have the logs of the services written to a folder; before the first episode."""
        for services in self.services:
            services.log_to(folder)

    def close(self) -> None:
        """End the services; without it they end with the program."""
        for services in self.services:
            services.close()


class EnvironmentConfig(Protocol):
    """A dataclass of an environment's settings, registered under entry point ``astuner.envs``.

    To step or to test the environment, ``build`` is all that is asked of it. Commands of
    ``astuner`` ask for a setting ``trainable: list[str] | None`` as well, the roles that learn and
    None for all, and refuse a class without it.
    """

    def build(self) -> Environment:
        """Build the environment.

        Raises:
            SettingError: A setting breaks a rule.
            TaskDataError: Task data is absent or malformed.
        """
        ...


ENTRY_POINT_GROUP = "astuner.envs"


def environment_config(name: str) -> type[EnvironmentConfig]:
    """Return the config class of the environment ``name``.

    Raises:
        SettingError: No installed environment has that name; the message names those that exist.
    """
    points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in points:
        raise SettingError(f"env must be one of {sorted(points)}, got {name!r}")
    config: type[EnvironmentConfig] = points[name].load()
    return config

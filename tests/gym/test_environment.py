"""The registry of installed environments."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_gym import environment
from astuner_gym.environment import Environment, environment_config
from astuner_gym.errors import SettingError
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult


class Idle:
    async def run(self, task: Task, models: Models) -> WorkflowResult:
        return WorkflowResult(output=None)


@dataclass
class IdleConfig:
    def build(self) -> Environment:
        return Environment(
            name="idle",
            workflow=Idle(),
            judge=FunctionJudge(lambda task, result: 0.0),
            train_tasks=RecordTasks("idle", [{}]),
        )


def install(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Let the installed environments be those that the entry points ``name=module:attr`` name."""
    points = EntryPoints(
        EntryPoint(name, value, environment.ENTRY_POINT_GROUP) for name, value in values.items()
    )
    monkeypatch.setattr(environment, "entry_points", lambda *, group: points.select(group=group))


def test_the_environments_that_ship_are_installed() -> None:
    assert environment_config("gsm8k") is Gsm8kConfig


def test_an_environment_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, mine="importlib.metadata:EntryPoint", other="builtins:dict")
    assert environment_config("other") is dict


def test_an_unknown_environment_is_refused_with_those_that_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, b="builtins:dict", a="builtins:list")
    with pytest.raises(SettingError, match=r"env must be one of \['a', 'b'\], got 'gsm9k'"):
        environment_config("gsm9k")


def test_a_broken_package_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, broken="no_such_package:Config", whole="builtins:dict")
    assert environment_config("whole") is dict


def test_an_environment_has_no_held_out_tasks_or_demonstrations_unless_it_says_so() -> None:
    idle = IdleConfig().build()
    assert (idle.eval_tasks, idle.demonstrations) == ({}, None)

"""The services of an environment: a run keeps their logs, and ends them however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from astuner_gym.environment import Environment
from astuner_gym.services.command import ServiceCommand
from astuner_gym.services.pool import ServicePool
from astuner_gym.task import Task
from astuner_gym.workflow import Models, Workflow, WorkflowResult
from astuner_rl import assembly, evaluate, play, rescore, train
from astuner_rl.backbones.debug import DebugBackbone
from astuner_rl.backbones.loop import LoopState, TrainingLoop
from astuner_rl.config import ExperimentConfig
from tests.rl.conftest import ToyRuns

COUNTING = Path(__file__).parents[1] / "gym/services/counting_service.py"


@dataclass
class ScriptedServices:
    """Notes what a run does with services."""

    logs: list[Path] = field(default_factory=list)
    closed: int = 0

    def log_to(self, folder: Path) -> None:
        """Note the folder."""
        assert not self.closed
        self.logs.append(folder)

    def close(self) -> None:
        """Count it."""
        self.closed += 1


@dataclass(frozen=True)
class Counted:
    """A workflow that asks a service in each episode."""

    inner: Workflow
    pool: ServicePool

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        """Run the inner one, with a service held."""
        async with (
            self.pool.lease() as lease,
            httpx.AsyncClient(trust_env=False, verify=False, headers=lease.headers) as client,
        ):
            (await client.post(f"{lease.base_url}/count")).raise_for_status()
            return await self.inner.run(task, models)


def give(
    patch: pytest.MonkeyPatch, command: ModuleType, change: Callable[[Environment], Environment]
) -> None:
    """Have a command build another environment than its settings say."""
    build = assembly.build_environment
    patch.setattr(command, "build_environment", lambda config: change(build(config)))


def keepers() -> list[str]:
    """Return the children of this process that keep a service."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    children = [child for part in listed for child in part.read_text().split()]
    return [
        child for child in children if b"keeper.py" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.fixture
def services() -> ScriptedServices:
    return ScriptedServices()


@pytest.fixture
def with_services(
    monkeypatch: pytest.MonkeyPatch, services: ScriptedServices
) -> Callable[[ModuleType], None]:
    """Have a command's environment need the scripted services."""
    return lambda command: give(
        monkeypatch, command, lambda environment: replace(environment, services=(services,))
    )


def test_real_services_log_into_the_run_folder_and_end_with_the_run(
    toy: ToyRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ServicePool(ServiceCommand(argv=[sys.executable, "-S", str(COUNTING), "{port}"]), 1)

    def counted(environment: Environment) -> Environment:
        workflow = Counted(environment.workflow, pool)
        return replace(environment, workflow=workflow, services=(pool,))

    give(monkeypatch, train, counted)
    assert toy.start(tmp_path / "run", "train.steps=1") == 0
    (log,) = (tmp_path / "run" / "services").iterdir()
    assert "listening\n" in log.read_text()
    assert keepers() == []


def test_the_folder_is_given_before_the_first_episode_and_closed_after_the_last(
    toy: ToyRuns,
    tmp_path: Path,
    services: ScriptedServices,
    with_services: Callable[[ModuleType], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def watched(loop: TrainingLoop, state: LoopState) -> LoopState:
        assert services == ScriptedServices([tmp_path / "run" / "services"], closed=0)
        return await run(loop, state)

    run = TrainingLoop.run
    monkeypatch.setattr(TrainingLoop, "run", watched)
    with_services(train)
    assert toy.start(tmp_path / "run", "train.steps=1") == 0
    assert services.closed == 1


@pytest.mark.parametrize(("failure", "status"), [(KeyboardInterrupt(), 130), (OSError(28, ""), 1)])
def test_they_end_with_a_run_that_is_broken_off(
    toy: ToyRuns,
    tmp_path: Path,
    services: ScriptedServices,
    with_services: Callable[[ModuleType], None],
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    status: int,
) -> None:
    async def broken(loop: TrainingLoop, state: LoopState) -> LoopState:
        raise failure

    monkeypatch.setattr(TrainingLoop, "run", broken)
    with_services(train)
    assert toy.start(tmp_path / "run") == status
    assert (len(services.logs), services.closed) == (1, 1)


def test_they_end_where_no_run_can_start(
    toy: ToyRuns, services: ScriptedServices, with_services: Callable[[ModuleType], None]
) -> None:
    with_services(train)
    assert train.main(toy.settings("model.path=/nowhere")) == 2
    assert (services.logs, services.closed) == ([], 1)


def test_they_end_after_steps_in_print(
    toy: ToyRuns,
    services: ScriptedServices,
    with_services: Callable[[ModuleType], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(backbone: DebugBackbone) -> None:
        assert services.closed == 0

    monkeypatch.setattr(DebugBackbone, "run", nothing)
    with_services(train)
    assert train.main(toy.settings("backbone=debug")) == 0
    assert services.closed == 1


def test_they_end_after_a_measurement(
    toy: ToyRuns,
    tmp_path: Path,
    services: ScriptedServices,
    with_services: Callable[[ModuleType], None],
) -> None:
    with_services(evaluate)
    assert evaluate.main(toy.settings(f"run.dir={tmp_path}")) == 0
    assert (services.logs, services.closed) == ([tmp_path / "services"], 1)


def test_they_end_with_the_typed_tasks(
    toy: ToyRuns,
    services: ScriptedServices,
    with_services: Callable[[ModuleType], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lines(field: str) -> list[str]:
        assert services.closed == 0
        return ["Hello?"]

    monkeypatch.setattr(play, "_lines", lines)
    with_services(play)
    assert play.main(toy.settings()) == 0
    assert services.closed == 1


def test_they_end_after_judging_anew(
    toy: ToyRuns, services: ScriptedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.expected()

    def needing(config: ExperimentConfig) -> Environment:
        return replace(assembly.build_environment(config), services=(services,))

    monkeypatch.setattr(rescore, "build_environment", needing)
    assert rescore.main([f"run={toy.expected_folder()}", "judge=env"]) == 0
    assert services.closed == 1

"""The conformance table: its cells, its details and its exit status."""

from __future__ import annotations

import asyncio
import importlib.util
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from agentscope.message import UserMsg

from astuner_gym.environment import Environment
from astuner_gym.errors import NotSetUpError
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.testing import EnvironmentConformance
from astuner_gym.testing import __main__ as command
from astuner_gym.testing import table as table_module
from astuner_gym.testing.libraries import LIBRARY_CHECKS, LibraryCheck
from astuner_gym.testing.table import (
    Outcome,
    RegisteredConformance,
    Result,
    run_checks,
    suite_checks,
    table,
)
from astuner_gym.workflow import Models, WorkflowResult


class Pair:
    """Two agents at once."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        await asyncio.gather(*(models[name]([UserMsg("user", "Go.")]) for name in ("Ann", "Bob")))
        return WorkflowResult(output="")


class PairConformance(EnvironmentConformance):
    def make_environment(self) -> Environment:
        return Environment(
            name="pair",
            workflow=Pair(),
            judge=FunctionJudge(lambda task, result: 1.0),
            train_tasks=RecordTasks("t", [{}]),
            agents=("Ann", "Bob"),
        )


class Unbuildable(EnvironmentConformance):
    def make_environment(self) -> Environment:
        raise OSError("the service is down")


def test_a_sound_environment_passes_all_that_is_installed() -> None:
    results = list(run_checks({"pair": PairConformance()}))
    assert len(results) == len(suite_checks()) + len(LIBRARY_CHECKS)
    for result in results:
        assert result.outcome in (Outcome.PASSED, Outcome.NOT_INSTALLED), result.detail
    absent = {result.check for result in results if result.outcome is Outcome.NOT_INSTALLED}
    assert absent == {
        check.name
        for check in LIBRARY_CHECKS
        if check.module and importlib.util.find_spec(check.module) is None
    }


def test_an_environment_that_cannot_be_built_fails_and_the_others_do_not() -> None:
    results = list(run_checks({"down": Unbuildable(), "pair": PairConformance()}))
    down = [result for result in results if result.environment == "down"]
    assert {result.outcome for result in down} <= {Outcome.FAILED, Outcome.NOT_INSTALLED}
    assert all("the service is down" in result.detail for result in down if result.detail)
    assert any(result.outcome is Outcome.PASSED for result in results)


class NotSetUp(EnvironmentConformance):
    def make_environment(self) -> Environment:
        raise NotSetUpError("there is no engine; run scripts/setup_engine")


def test_checks_of_an_environment_that_is_not_set_up_are_skipped_and_it_is_said_once() -> None:
    results = list(run_checks({"engine": NotSetUp()}))
    assert {result.outcome for result in results} <= {Outcome.SKIPPED, Outcome.NOT_INSTALLED}
    assert [r.outcome for r in results].count(Outcome.SKIPPED) >= len(suite_checks())
    printed = table(results)
    assert printed.count("there is no engine; run scripts/setup_engine") == 1
    assert "engine, a seed gives one episode and " in printed


@dataclass
class ScriptedServices:
    """Counts how often it is ended."""

    closed: int = 0

    def log_to(self, folder: Path) -> None:
        """Keep no logs."""

    def close(self) -> None:
        """Count it."""
        self.closed += 1


class PairWithServices(PairConformance):
    def __init__(self) -> None:
        self.made: list[ScriptedServices] = []

    def make_environment(self) -> Environment:
        self.made.append(ScriptedServices())
        return replace(super().make_environment(), services=(self.made[-1],))


def test_services_end_with_the_test_that_they_were_made_for() -> None:
    suite = PairWithServices()
    for name, check in suite_checks().items():
        if "process" not in name:  # it takes the suite to another one
            check(suite)
    assert len(suite.made) > len(suite_checks())
    assert {services.closed for services in suite.made} == {1}


def test_a_registered_environment_with_services_is_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker = PairWithServices()

    @dataclass
    class Config:
        def build(self) -> Environment:
            return maker.make_environment()

    monkeypatch.setattr(table_module, "environment_config", lambda name: Config)
    suite = RegisteredConformance("pair")
    for _ in range(2):
        suite.test_agents_are_those_named()
    assert [services.closed for services in maker.made] == [0]
    elsewhere = pickle.loads(pickle.dumps(suite))
    suite.close()
    assert [services.closed for services in maker.made] == [1]
    elsewhere.test_agents_are_those_named()
    assert len(maker.made) == 2  # another process makes its own


def test_every_test_of_the_suite_is_a_line() -> None:
    tests = [name for name in dir(EnvironmentConformance) if name.startswith("test_")]
    assert len(suite_checks()) == len(tests) >= 14
    assert "close leaves no thread" in suite_checks()


def test_the_table_has_a_line_a_check_and_a_column_an_environment() -> None:
    results = [
        Result("a seed", "one", Outcome.PASSED),
        Result("a library", "one", Outcome.NOT_INSTALLED),
        Result("a seed", "two", Outcome.FAILED, "Traceback: it broke"),
        Result("a library", "two", Outcome.NOT_INSTALLED),
    ]
    assert table(results) == (
        "           one            two\n"
        "a seed     ok             FAILED\n"
        "a library  not installed  not installed\n"
        "\n"
        "two, a seed: FAILED\n"
        "Traceback: it broke"
    )


def test_a_library_that_is_absent_is_not_called() -> None:
    def never(suite: EnvironmentConformance) -> None:
        raise AssertionError

    assert not LibraryCheck("absent", never, "no_such_library").installed
    assert LibraryCheck("always there", never).installed


@pytest.mark.parametrize(("outcome", "status"), [(Outcome.PASSED, 0), (Outcome.FAILED, 1)])
def test_the_command_fails_if_a_check_does(
    outcome: Outcome,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def run(suites: dict[str, EnvironmentConformance]) -> list[Result]:
        asked.extend(suites)
        return [Result("a seed", name, outcome) for name in suites]

    monkeypatch.setattr(command, "run_checks", run)
    assert command.main(["gsm8k"]) == status
    assert asked == ["gsm8k"]
    assert capsys.readouterr().out == f"        gsm8k\na seed  {outcome}\n"


def test_the_command_names_the_environments_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["gsm9k"])
    assert ended.value.code == 2
    assert "'gsm8k'" in capsys.readouterr().err

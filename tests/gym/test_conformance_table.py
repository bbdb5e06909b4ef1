"""The conformance table: its cells, its details and its exit status."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest
from agentscope.message import UserMsg

from astuner_gym.environment import Environment
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.testing import EnvironmentConformance
from astuner_gym.testing import __main__ as command
from astuner_gym.testing.libraries import LIBRARY_CHECKS, LibraryCheck
from astuner_gym.testing.table import Outcome, Result, run_checks, suite_checks, table
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

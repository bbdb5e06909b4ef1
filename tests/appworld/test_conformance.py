"""What every environment promises, with the real engine."""

from __future__ import annotations

from astuner_gym.environment import Environment
from astuner_gym.testing import EnvironmentConformance
from astuner_gym.testing.table import Outcome, run_checks, suite_checks
from tests.appworld.conftest import Stage


class _Shared(EnvironmentConformance):
    """The suite of an environment whose services go on."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def make_environment(self) -> Environment:
        """Return the environment."""
        return self._environment

    def release(self, environment: Environment) -> None:
        """Keep it."""


def test_the_environment_passes_every_check_of_the_suite_in_this_process(stage: Stage) -> None:
    results = [
        result
        for result in run_checks({"appworld": _Shared(stage.environment)})
        if "any process" not in result.check  # an environment whose services run cannot be sent
    ]
    assert len(results) >= len(suite_checks()) - 1
    failed = [result for result in results if result.outcome is Outcome.FAILED]
    assert failed == [], failed[0].detail

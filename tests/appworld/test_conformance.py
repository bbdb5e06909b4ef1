"""What every environment promises, with the real engine."""

from __future__ import annotations

from unittest import SkipTest

import pytest

from astuner_gym.environment import Environment
from astuner_gym.testing import EnvironmentConformance
from astuner_gym.testing.libraries import gymnasium_check_env
from astuner_gym.testing.table import suite_checks
from tests.appworld.conftest import Stage

CHECKS = {**suite_checks(), "gymnasium": gymnasium_check_env}
ELSEWHERE = {name for name in CHECKS if "any process" in name}
"""An environment whose services run cannot be sent to another process."""


class _Shared(EnvironmentConformance):
    """The suite of an environment whose services go on."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def make_environment(self) -> Environment:
        """Return the environment."""
        return self._environment

    def release(self, environment: Environment) -> None:
        """Keep it."""


@pytest.mark.parametrize("name", sorted(CHECKS.keys() - ELSEWHERE))
def test_the_environment_passes_each_check(stage: Stage, name: str) -> None:
    try:
        CHECKS[name](_Shared(stage.environment))
    except SkipTest as skipped:
        pytest.fail(f"nothing was checked: {skipped}")

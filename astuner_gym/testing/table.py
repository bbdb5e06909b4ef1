"""One table of what every environment must hold to: checks by environments."""

from __future__ import annotations

import contextlib
import io
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from unittest import SkipTest

from astuner_gym.environment import Environment, environment_config
from astuner_gym.testing.conformance import EnvironmentConformance
from astuner_gym.testing.libraries import LIBRARY_CHECKS


class Outcome(StrEnum):
    """What a check came to."""

    PASSED = "ok"
    FAILED = "FAILED"
    SKIPPED = "skipped"
    """There was nothing to check."""
    NOT_INSTALLED = "not installed"
    """The library that checks is not there."""


@dataclass(frozen=True, slots=True)
class Result:
    """One cell of the table."""

    check: str
    environment: str
    outcome: Outcome
    detail: str = ""
    """Why it failed or was skipped."""


class RegisteredConformance(EnvironmentConformance):
    """The suite of an environment that is registered by name, with its default settings.

    An environment that needs services is made once, since they take seconds to start.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._shared: Environment | None = None

    def __reduce__(self) -> tuple[type[RegisteredConformance], tuple[str]]:
        """Leave what is shared behind: services belong to the process that started them."""
        return RegisteredConformance, (self.name,)

    def make_environment(self) -> Environment:
        """Build the environment, or return the one that is shared."""
        if self._shared is not None:
            return self._shared
        environment = environment_config(self.name)().build()
        if environment.services:
            self._shared = environment
        return environment

    def release(self, environment: Environment) -> None:
        """Keep what is shared."""

    def close(self) -> None:
        """End what is shared."""
        if self._shared is not None:
            self._shared.close()


Check = Callable[[EnvironmentConformance], None]


def suite_checks() -> dict[str, Check]:
    """Return the tests of :class:`EnvironmentConformance` by their names in plain words."""
    return {
        name.removeprefix("test_").replace("_", " "): test
        for name, test in vars(EnvironmentConformance).items()
        if name.startswith("test_")
    }


def run_checks(suites: Mapping[str, EnvironmentConformance]) -> Iterable[Result]:
    """Check each environment in all ways, one result after the other."""
    for environment, suite in suites.items():
        for name, check in suite_checks().items():
            yield _run(name, check, environment, suite)
        for library in LIBRARY_CHECKS:
            if library.installed:
                yield _run(library.name, library.run, environment, suite)
            else:
                yield Result(library.name, environment, Outcome.NOT_INSTALLED)


def table(results: Sequence[Result]) -> str:
    """Return the table: a line for each check, a column for each environment, details below."""
    environments = list(dict.fromkeys(result.environment for result in results))
    outcomes = {(result.check, result.environment): result.outcome for result in results}
    checks = list(dict.fromkeys(result.check for result in results))
    rows = [("", *environments)]
    rows += [
        (check, *(outcomes.get((check, environment), "") for environment in environments))
        for check in checks
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    alike: dict[tuple[str, Outcome, str], list[str]] = {}
    for result in results:
        if result.detail:
            key = (result.environment, result.outcome, result.detail)
            alike.setdefault(key, []).append(result.check)
    lines += [
        f"\n{environment}, {_named(which)}: {outcome}\n{detail}"
        for (environment, outcome, detail), which in alike.items()
    ]
    return "\n".join(lines)


def _named(checks: Sequence[str]) -> str:
    first, *others = checks
    return f"{first} and {len(others)} more" if others else first


def _run(name: str, check: Check, environment: str, suite: EnvironmentConformance) -> Result:
    try:
        # The libraries' checks print what they do and give advice; faults they raise.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(suite)
    except SkipTest as skipped:
        return Result(name, environment, Outcome.SKIPPED, str(skipped))
    except Exception:  # an environment or a library's check may raise anything; it is shown
        return Result(name, environment, Outcome.FAILED, traceback.format_exc())
    return Result(name, environment, Outcome.PASSED)

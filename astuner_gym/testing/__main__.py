"""``python -m astuner_gym.testing [ENVIRONMENT …]``: the conformance table.

Exit status 0 if no check failed, 1 if one did, 2 if an environment is not registered. Those of an
environment that is not set up here are skipped, and the table says what it lacks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import entry_points

from astuner_gym.environment import ENTRY_POINT_GROUP
from astuner_gym.testing.table import Outcome, RegisteredConformance, run_checks, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the environments, print the table, and return the exit status."""
    registered = sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP))
    parser = argparse.ArgumentParser(
        prog="python -m astuner_gym.testing",
        description="Check environments in all ways and print one table.",
    )
    parser.add_argument(
        "environments", nargs="*", metavar="ENVIRONMENT", help=f"of {registered}; all by default"
    )
    names = parser.parse_args(arguments).environments or registered
    unknown = [name for name in names if name not in registered]
    if unknown:
        parser.error(f"environments must be among {registered}, got {unknown}")
    results = []
    for name in names:
        with closing(RegisteredConformance(name)) as suite:
            for result in run_checks({name: suite}):
                print(f"{result.environment}, {result.check}: {result.outcome}", file=sys.stderr)
                results.append(result)
    print(table(results))
    return int(any(result.outcome is Outcome.FAILED for result in results))


if __name__ == "__main__":
    raise SystemExit(main())

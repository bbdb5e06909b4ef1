"""What an episode came to, as a workflow hands it to a judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from astuner_envs.appworld.world import CheckResult
from astuner_gym.task import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of an episode."""

    completed: bool
    """Whether the agent marked the task as completed."""
    executions: int
    checks: CheckResult | None
    """None if the final state could not be evaluated, by the doing of the agent's code."""
    flags: tuple[str, ...]
    """What the agent's code reached for that is no part of a world."""

    def to_json(self) -> dict[str, JsonValue]:
        """Return it as plain values, which :meth:`from_json` reads."""
        return {
            "completed": self.completed,
            "executions": self.executions,
            "checks": None if self.checks is None else asdict(self.checks),
            "flags": list(self.flags),
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> Outcome | None:
        """Return the outcome; None for an episode that a limit cut short."""
        if not isinstance(value, Mapping):
            return None
        checks, flags = value["checks"], value["flags"]
        assert isinstance(flags, (list, tuple))
        return cls(
            completed=bool(value["completed"]),
            executions=_whole(value["executions"]),
            checks=None
            if not isinstance(checks, Mapping)
            else CheckResult(
                success=bool(checks["success"]),
                required_passed=_whole(checks["required_passed"]),
                required=_whole(checks["required"]),
                no_op_failed=_whole(checks["no_op_failed"]),
                no_op=_whole(checks["no_op"]),
            ),
            flags=tuple(map(str, flags)),
        )


def _whole(value: JsonValue) -> int:
    assert isinstance(value, int)
    return value

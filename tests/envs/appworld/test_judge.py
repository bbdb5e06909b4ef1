"""What an outcome is worth, without the engine."""

from __future__ import annotations

import asyncio

import pytest

from astuner_envs.appworld.judge import AppWorldJudge, Reward
from astuner_envs.appworld.outcome import Outcome
from astuner_envs.appworld.world import CheckResult
from astuner_gym.judge import Score
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult

TASK = Task(id="a_1", record={})


def checks(passed: int, required: int, failed: int, no_op: int) -> CheckResult:
    return CheckResult(
        success=passed == required and failed == 0,
        required_passed=passed,
        required=required,
        no_op_failed=failed,
        no_op=no_op,
    )


def score(outcome: Outcome | None, *, reward: Reward = Reward.DENSE, forfeit: bool = True) -> Score:
    output = None if outcome is None else outcome.to_json()
    judge = AppWorldJudge(reward=reward, forfeit=forfeit)
    return asyncio.run(judge.score(TASK, WorkflowResult(output=output)))


def outcome(result: CheckResult | None, *flags: str) -> Outcome:
    return Outcome(completed=True, executions=2, checks=result, flags=flags)


@pytest.mark.parametrize(
    ("result", "dense", "success"),
    [
        (checks(4, 4, 0, 1), 1.0, 1.0),
        (checks(2, 4, 0, 1), 0.5, 0.0),
        (checks(2, 4, 1, 4), 0.25, 0.0),
        (checks(4, 4, 1, 2), 0.5, 0.0),
        (checks(1, 4, 1, 1), 0.0, 0.0),
        (checks(0, 4, 0, 1), 0.0, 0.0),
        (checks(1, 1, 0, 0), 1.0, 1.0),
    ],
)
def test_rewards(result: CheckResult, dense: float, success: float) -> None:
    assert score(outcome(result)).reward("coder") == dense
    assert score(outcome(result), reward=Reward.SUCCESS).reward("coder") == success
    assert score(outcome(result)).success == bool(success)


def test_a_flagged_episode_is_worth_nothing_unless_that_is_switched_off() -> None:
    flagged = outcome(checks(4, 4, 0, 1), "name open")
    assert score(flagged).reward("coder") == 0.0
    assert not score(flagged).success
    assert score(flagged, forfeit=False).reward("coder") == 1.0
    assert score(flagged, forfeit=False).metrics["flagged"] == 1.0


def test_an_episode_that_was_not_evaluated_is_worth_nothing() -> None:
    assert score(outcome(None)).reward("coder") == 0.0
    assert score(None).reward("coder") == 0.0
    assert score(None).metrics["evaluated"] == 0.0


def test_an_outcome_survives_json() -> None:
    kept = outcome(checks(2, 4, 1, 4), "name open", "text /proc")
    assert Outcome.from_json(kept.to_json()) == kept

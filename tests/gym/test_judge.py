"""Verdicts of users' judges: what counts as one, and who gets it."""

from __future__ import annotations

import asyncio
import math

import pytest

from astuner_gym.errors import JudgeError, TaskDataError
from astuner_gym.judge import FunctionJudge, JudgeFunction, Score
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult

TASK = Task(id="t-3", record={})


def judged(function: JudgeFunction) -> Score:
    return asyncio.run(FunctionJudge(function).score(TASK, WorkflowResult(output="four")))


def returns(verdict: object) -> JudgeFunction:
    return lambda task, result: verdict  # type: ignore[return-value]  # users return anything


def test_an_agent_gets_its_own_reward_or_everyones() -> None:
    score = Score(rewards={"wolf": -1.0, "*": 0.5}, success=True)
    assert [score.reward("wolf"), score.reward("seer")] == [-1.0, 0.5]


@pytest.mark.parametrize("reward", [math.nan, math.inf, None, "1"])
def test_a_reward_must_be_a_finite_number(reward: object) -> None:
    score = Score(rewards={"wolf": reward}, success=True)  # type: ignore[dict-item]
    with pytest.raises(JudgeError, match=f"needs a finite reward, got {reward!r} for 'wolf'"):
        score.reward("wolf")


def test_an_agent_without_a_reward_is_named() -> None:
    with pytest.raises(JudgeError, match=r"for 'seer' from .*; name the agent or add '\*'"):
        Score(rewards={"wolf": 1.0}, success=True).reward("seer")


def test_a_reward_falls_with_the_calls_that_the_judge_says() -> None:
    score = Score(rewards={"*": 1.0}, success=True, call_rewards={"ann": [0.25, 0], "eve": []})
    assert score.rewards_by_call(calls={"ann": 3, "bob": 1}) == {"ann": (0.25, 0.0, 0.0)}


@pytest.mark.parametrize("earned", [[0.5, math.nan], ["1"], 0.5, None, "1"])
def test_a_reward_of_a_call_must_be_a_finite_number(earned: list[float]) -> None:
    score = Score(rewards={"*": 1.0}, success=True, call_rewards={"ann": earned})
    with pytest.raises(JudgeError, match=r"a list of finite numbers for each agent, got .* 'ann'"):
        score.rewards_by_call(calls={"ann": 2})


@pytest.mark.parametrize("agent", ["ann", "anne", "*"])
def test_a_reward_of_a_call_that_was_not_made_is_refused(agent: str) -> None:
    score = Score(rewards={"*": 1.0}, success=True, call_rewards={agent: [0.5, 0.5, 0.5]})
    with pytest.raises(JudgeError, match="each reward must belong to a call, got 3 rewards"):
        score.rewards_by_call(calls={"ann": 2})


@pytest.mark.parametrize(
    ("verdict", "reward", "success"),
    [(True, 1.0, True), (False, 0.0, False), (2, 2.0, True), (0.25, 0.25, True), (-1, -1.0, False)],
)
def test_a_number_is_everyones_reward(verdict: float, reward: float, success: bool) -> None:
    score = judged(returns(verdict))
    assert (score.reward("anyone"), score.success) == (reward, success)


def test_a_judge_sees_task_and_result() -> None:
    assert judged(lambda task, result: (task.id, result.output) == ("t-3", "four")).success


def test_a_score_is_returned_as_it_is() -> None:
    score = Score(rewards={"wolf": 0.0}, success=True, metrics={"moves": 3})
    assert judged(returns(score)) is score


def test_a_judge_may_be_async() -> None:
    async def judge(task: Task, result: WorkflowResult) -> float:
        await asyncio.sleep(0)
        return 0.75

    assert judged(judge).reward("anyone") == 0.75


@pytest.mark.parametrize("verdict", [None, "1.0", math.nan, math.inf, [1.0]])
def test_anything_else_is_no_verdict(verdict: object) -> None:
    with pytest.raises(
        JudgeError, match=r"must return a finite number or a Score, got .* task t-3"
    ):
        judged(returns(verdict))


def test_what_a_judge_raises_is_the_cause() -> None:
    failure = KeyError("answer")

    def broken(task: Task, result: WorkflowResult) -> float:
        raise failure

    with pytest.raises(JudgeError, match="judge raised on task t-3: KeyError") as raised:
        judged(broken)
    assert raised.value.__cause__ is failure


def test_bad_task_data_stays_what_it_is() -> None:
    with pytest.raises(TaskDataError, match="field 'answer' must be text"):
        judged(lambda task, result: task.text("answer") == result.output)

"""Judges made of judges: who gets what, and which parts are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_gym.errors import JudgeError, SettingError
from astuner_gym.judge import FunctionJudge, Judge, Score
from astuner_gym.judging.composition import Part, PerAgent, WeightedSum
from astuner_gym.task import JsonValue, Task
from astuner_gym.workflow import WorkflowResult

TASK = Task(id="t-0", record={})


def fixed(
    rewards: Mapping[str, float] | float, *, success: bool = True, **fields: Mapping[str, object]
) -> Judge:
    named = rewards if isinstance(rewards, Mapping) else {"*": rewards}
    score = Score(rewards=named, success=success, **fields)  # type: ignore[arg-type]
    return FunctionJudge(lambda task, result: score)


def raising() -> Judge:
    def judge(task: Task, result: WorkflowResult) -> float:
        raise AssertionError("this part must not be asked")

    return FunctionJudge(judge)


def judged(judge: Judge, output: JsonValue = "four", *, truncated: bool = False) -> Score:
    return asyncio.run(judge.score(TASK, WorkflowResult(output=output, truncated=truncated)))


def test_a_sum_weighs_its_parts_and_logs_each_by_name() -> None:
    score = judged(
        WeightedSum(
            {
                "solved": Part(judge=fixed(1.0, success=False, metrics={"answered": 1.0})),
                "short": Part(judge=fixed(-0.5), weight=0.25),
            }
        )
    )
    assert score.rewards == {"*": 0.875}
    assert score.success is False  # the first part says so
    assert score.metrics == {"solved": 1.0, "solved/answered": 1.0, "short": -0.5}


def test_when_a_part_fails_the_others_are_not_waited_for() -> None:
    ended: list[str] = []

    class Slow:
        async def score(self, task: Task, result: WorkflowResult) -> Score:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("slow")
            raise AssertionError("nobody sets the event")

    def fails(task: Task, result: WorkflowResult) -> float:
        raise JudgeError("no verdict")

    parts = {"slow": Part(judge=Slow()), "failing": Part(judge=FunctionJudge(fails))}
    with pytest.raises(JudgeError, match="no verdict"):
        judged(WeightedSum(parts))
    assert ended == ["slow"]


def test_another_part_may_say_whether_the_episode_is_solved() -> None:
    parts = {"a": Part(judge=fixed(1.0)), "b": Part(judge=fixed(0.0, success=False))}
    assert judged(WeightedSum(parts)).success is True
    assert judged(WeightedSum(parts, success="b")).success is False


def test_each_agent_gets_its_own_sum() -> None:
    score = judged(
        WeightedSum(
            {
                "game": Part(judge=fixed({"wolf": 1.0, "*": -1.0})),
                "speech": Part(judge=fixed({"seer": 0.5, "*": 0.0}), weight=2.0),
                "manners": Part(judge=fixed(0.25), agents=["witch"]),
            }
        )
    )
    assert score.rewards == {"wolf": 1.0, "seer": 0.0, "witch": -0.75, "*": -1.0}
    assert score.metrics == {
        "game/wolf": 1.0,
        "game/*": -1.0,
        "speech/seer": 0.5,
        "speech/*": 0.0,
        "manners": 0.25,
    }


def test_an_agent_whom_a_part_does_not_know_is_named() -> None:
    parts = {"a": Part(judge=fixed({"wolf": 1.0})), "b": Part(judge=fixed({"seer": 1.0}))}
    with pytest.raises(JudgeError, match=r"each agent needs a finite reward.*'seer'"):
        judged(WeightedSum(parts))


def test_a_closed_gate_saves_the_other_parts() -> None:
    gate = Part(judge=fixed(0.4), least=0.5)
    score = judged(WeightedSum({"format": gate, "costly": Part(judge=raising())}, closed=-1.0))
    assert score.rewards == {"*": -1.0}
    assert score.success is False
    assert score.metrics == {"gate": 0.0, "format": 0.4}


def test_an_open_gate_counts_as_any_part() -> None:
    parts = {"format": Part(judge=fixed(0.5), least=0.5, weight=0.0), "rest": Part(judge=fixed(3))}
    score = judged(WeightedSum(parts))
    assert (score.rewards, score.success) == ({"*": 3.0}, True)
    assert score.metrics == {"gate": 1.0, "format": 0.5, "rest": 3.0}


def test_a_gate_may_be_closed_to_one_agent() -> None:
    parts = {
        "polite": Part(judge=fixed({"wolf": 0.0, "*": 1.0}), least=0.5, weight=0.0),
        "won": Part(judge=fixed(1.0, call_rewards={"wolf": [1.0], "seer": [0.5]})),
    }
    score = judged(WeightedSum(parts))
    assert score.rewards == {"wolf": 0.0, "*": 1.0}
    assert score.call_rewards == {"seer": [0.5]}
    assert score.success is False


def test_a_gate_for_one_agent_lets_the_others_pass() -> None:
    parts = {
        "polite": Part(judge=fixed(0.0), least=0.5, agents=["wolf"]),
        "won": Part(judge=fixed(1.0)),
    }
    assert judged(WeightedSum(parts)).rewards == {"wolf": 0.0, "*": 1.0}


def test_rewards_of_calls_add_up_call_by_call() -> None:
    parts = {
        "a": Part(judge=fixed(1.0, call_rewards={"ann": [0.5, 0.25]})),
        "b": Part(judge=fixed(1.0, call_rewards={"ann": [1.0, 0.0, 1.0]}), weight=0.5),
    }
    assert judged(WeightedSum(parts)).call_rewards == {"ann": [1.0, 0.25, 0.5]}


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=5))
def test_a_sum_of_sums_is_the_sum(parts: list[tuple[float, float]]) -> None:
    named = {
        str(number): Part(judge=fixed(reward), weight=weight)
        for number, (reward, weight) in enumerate(parts)
    }
    inner = WeightedSum(named)
    nested = judged(WeightedSum({"inner": Part(judge=inner, weight=2.0)})).reward("*")
    assert nested == pytest.approx(2 * sum(reward * weight for reward, weight in parts))


@pytest.mark.parametrize(
    ("parts", "success", "message"),
    [
        ({}, None, "at least one part"),
        ({"a": Part(judge=fixed(1.0))}, "b", r"one of the parts \['a'\], got 'b'"),
    ],
)
def test_a_sum_must_be_of_something(
    parts: dict[str, Part], success: str | None, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        WeightedSum(parts, success=success)


def length(task: Task, result: WorkflowResult) -> Score:
    assert isinstance(result.output, str)
    size = len(result.output)
    return Score(rewards={"*": size}, success=size > 1, metrics={"size": size})


def test_each_agents_output_is_judged_by_itself() -> None:
    score = judged(PerAgent(FunctionJudge(length)), {"ann": "abc", "bob": "d"})
    assert score.rewards == {"ann": 3, "bob": 1}
    assert score.success is False
    assert score.metrics == {"size/ann": 3, "size/bob": 1}


def test_outputs_by_agent_must_be_an_object() -> None:
    with pytest.raises(JudgeError, match="an object of outputs by agent, got 'abc'"):
        judged(PerAgent(FunctionJudge(length)), "abc")


def test_an_episode_cut_short_is_judged_as_a_whole() -> None:
    judge = PerAgent(fixed(-1.0, success=False))
    assert judged(judge, None, truncated=True).rewards == {"*": -1.0}

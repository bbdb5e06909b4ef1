"""Accuracy, reward and pass@k of held-out tasks, with failed episodes left out and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from agentscope.message import UserMsg

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.rollout.evaluation import Evaluation, evaluate
from astuner_rl.tracing.intervals import Interval, wilson_interval
from astuner_rl.types import Episode, EpisodeKey, EpisodeStatus, Group, SamplingParams

RunnerOf: TypeAlias = Callable[..., tuple[EpisodeRunner, Any]]


def evaluation(*outcomes: str, reward: float = 1.0) -> Evaluation:
    """Return an evaluation with one group for each text: + solved, - not, x failed."""
    groups = []
    for task, letters in enumerate(outcomes):
        episodes = [
            Episode(
                key=EpisodeKey("eval/heldout", 0, task, sample),
                task_id=f"t-{task}",
                calls=(),
                status=EpisodeStatus.FAILED if letter == "x" else EpisodeStatus.COMPLETED,
                rewards={} if letter == "x" else {"ann": reward * (letter == "+"), "bob": 0.0},
                success=letter == "+",
            )
            for sample, letter in enumerate(letters)
        ]
        groups.append(Group(task_id=f"t-{task}", episodes=tuple(episodes)))
    return Evaluation(groups=tuple(groups), seed=0)


def mean(interval: Interval | None) -> float:
    assert interval is not None
    assert interval.low <= interval.mean <= interval.high
    return interval.mean


def test_one_episode_a_task_gives_wilsons_interval() -> None:
    assert evaluation("+", "-", "+", "+").accuracy() == wilson_interval(successes=3, trials=4)


def test_a_failed_episode_is_no_loss() -> None:
    assert evaluation("+", "x", "+").accuracy() == wilson_interval(successes=2, trials=2)
    assert mean(evaluation("+x", "--").accuracy()) == 0.5
    assert mean(evaluation("+x", "--").reward()) == 0.25  # two agents, one of them without


def test_several_episodes_of_a_task_are_one_observation() -> None:
    accuracy = evaluation("++++", "----").accuracy()
    assert accuracy == Interval(0.5, 0.0, 1.0)  # of two tasks, not of eight episodes


def test_reward_is_the_mean_over_agents_episodes_and_tasks() -> None:
    assert mean(evaluation("++", "+-", reward=3.0).reward()) == pytest.approx((1.5 + 0.75) / 2)


@pytest.mark.parametrize(("k", "expected"), [(1, 0.25), (2, 0.5), (4, 1.0)])
def test_pass_at_k_of_a_task_solved_once_in_four(k: int, expected: float) -> None:
    assert mean(evaluation("-+--").pass_at(k)) == expected


def test_pass_at_k_counts_tasks_with_k_episodes() -> None:
    both = evaluation("+-+x", "-xxx")
    assert mean(both.pass_at(1)) == pytest.approx((2 / 3 + 0) / 2)
    assert mean(both.pass_at(2)) == 1.0  # 3 of 3 pairs; the second task has no pair
    assert both.pass_at(4) is None


def scenarios(named: str, *outcomes: str) -> Evaluation:
    """Return an evaluation whose tasks are of the scenarios with these letters."""
    return replace(evaluation(*outcomes), scenarios=tuple(named))


@pytest.mark.parametrize(
    ("named", "outcomes", "share"),
    [
        ("aabb", ("+", "+", "+", "-"), 0.5),
        ("abab", ("+", "-", "+", "+"), 0.5),  # variants need not be neighbours
        ("aabb", ("++", "+-", "--", "++"), 0.25),  # sample by sample, half of a and none of b
        ("aab", ("+", "+", "+"), 1.0),  # b is not whole
        ("aabb", ("+", "x", "-", "-"), 0.0),  # a was not played to its end
        ("aabb", ("++", "x+", "--", "++"), 0.5),  # a has one sample left
    ],
)
def test_a_scenario_counts_if_all_of_its_variants_are_solved(
    named: str, outcomes: Sequence[str], share: float
) -> None:
    measured = scenarios(named, *outcomes)
    assert mean(measured.scenario_accuracy()) == share
    assert measured.metrics("eval")["eval/scenario_accuracy"] == share


def test_without_scenarios_nothing_is_said_of_them() -> None:
    assert evaluation("+", "-").scenario_accuracy() is None
    assert "eval/scenario_accuracy" not in evaluation("+").metrics("eval")
    assert scenarios("aa", "+", "x").scenario_accuracy() is None


def test_an_evaluation_takes_scenarios_from_the_tasks(runner_of: RunnerOf) -> None:
    async def answer(key: EpisodeKey, call: ChatCall) -> ChatReply:
        return ChatReply(text=call.messages[-1].text)

    async def echo(task: Task, models: Models) -> WorkflowResult:
        response = await models["ann"]([UserMsg("user", task.text("says"))])
        return WorkflowResult(output=str(response.content[0].text))

    runner, _ = runner_of(
        echo, answer, judge=FunctionJudge(lambda task, result: float(result.output == "yes"))
    )
    said = [("a", "yes"), ("a", "yes"), ("b", "yes"), ("b", "no")]
    tasks = RecordTasks("t", [{"of": scenario, "says": text} for scenario, text in said])
    runner = replace(runner, environment=replace(runner.environment, scenario="of"))
    found = asyncio.run(
        evaluate(
            runner,
            [tasks[i] for i in range(4)],
            name="heldout",
            step=0,
            samples=1,
            params=SamplingParams(),
            seed=0,
        )
    )
    assert mean(found.scenario_accuracy()) == 0.5
    assert mean(found.accuracy()) == 0.75


def test_nothing_is_said_of_failed_episodes_alone() -> None:
    failed = evaluation("x", "x")
    assert (failed.accuracy(), failed.reward(), failed.pass_at(1)) == (None, None, None)
    assert failed.metrics("eval") == {"eval/episodes": 2, "eval/dropped": 2}


def test_metrics_hold_the_intervals_and_count_what_was_dropped() -> None:
    metrics = evaluation("+", "x", "+").metrics("eval")
    assert (metrics["eval/episodes"], metrics["eval/dropped"]) == (3, 1)
    assert metrics["eval/accuracy"] == metrics["eval/accuracy/high"] == 1.0
    assert metrics["eval/accuracy/low"] == pytest.approx(0.3424, abs=1e-4)  # Wilson, 2 of 2
    assert metrics["eval/reward"] == 0.5


def test_episodes_of_an_evaluation_are_named_by_its_set(runner_of: RunnerOf) -> None:
    async def greet(task: Task, models: Models) -> WorkflowResult:
        await models["ann"]([UserMsg("user", task.id)])
        return WorkflowResult(output=task.id)

    async def answer(key: EpisodeKey, call: ChatCall) -> ChatReply:
        return ChatReply(text="hello")

    runner, _ = runner_of(
        greet, answer, judge=FunctionJudge(lambda task, result: result.output == "task-1")
    )
    source = RecordTasks("task", [{}, {}])
    tasks: Sequence[Task] = [source[0], source[1]]
    result = asyncio.run(
        evaluate(
            runner,
            tasks,
            name="unseen",
            step=6,
            samples=2,
            params=SamplingParams(temperature=0.0),
            seed=0,
        )
    )
    assert [episode.key for episode in result.episodes] == [
        EpisodeKey("eval/unseen", 6, task, sample) for task in range(2) for sample in range(2)
    ]
    assert [episode.success for episode in result.episodes] == [False, False, True, True]
    assert result.episodes[0].calls[0].params == SamplingParams(temperature=0.0)

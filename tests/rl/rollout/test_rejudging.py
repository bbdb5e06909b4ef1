"""Episodes judged once more: against each other, or by another judge."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence

import pytest
from agentscope.message import UserMsg

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.environment import Environment
from astuner_gym.errors import BrokenJudgeError, JudgeError
from astuner_gym.judge import FunctionJudge, Score
from astuner_gym.task import JsonValue, RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.rollout.groups import collect_groups
from astuner_rl.rollout.rejudging import kept_result, rejudged
from astuner_rl.types import Episode, EpisodeKey, EpisodeStatus, SamplingParams
from tests.rl.rollout.conftest import ScriptedPolicy

TASKS = RecordTasks("t", [{"n": 0}, {"n": 1}])
Outputs = Sequence[JsonValue]


async def answer(key: EpisodeKey, call: ChatCall) -> ChatReply:
    return ChatReply(text="Yes.")


class Numbered:
    """Two calls of ann; the outputs of a task's episodes come from a list, in turn."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = iter(outputs)

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        output = next(self._outputs)
        await models["ann"]([UserMsg("user", "Hi.")])
        models.reward("ann", 0.5)
        await models["ann"]([UserMsg("user", "Hi again.")])
        if output == "fail":
            raise ValueError("it fails")
        return WorkflowResult(output=output, metrics={"steps": 2})


class ByLength:
    """Longer outputs earn more; raises where it is told to."""

    def __init__(self, failure: JudgeError | None = None) -> None:
        self.groups: list[tuple[str, Outputs]] = []
        self._failure = failure

    async def score_group(self, task: Task, results: Sequence[WorkflowResult]) -> list[Score]:
        self.groups.append((task.id, [result.output for result in results]))
        if self._failure is not None:
            raise self._failure
        return [
            Score(rewards={"*": float(len(str(result.output)))}, success=False, metrics={"n": 1.0})
            for result in results
        ]


def played(outputs: Outputs, judge: ByLength | None, *, samples: int = 3) -> list[Episode]:
    async def run() -> list[Episode]:
        runner = EpisodeRunner(
            environment=Environment(
                name="numbered",
                workflow=Numbered(outputs),
                judge=FunctionJudge(lambda task, result: 1.0),
                train_tasks=TASKS,
            ),
            policy=ScriptedPolicy(answer),
            config=RolloutConfig(attempts=1, concurrency=1),
        )
        groups = await collect_groups(
            runner,
            [TASKS[0]],
            phase="train",
            step=0,
            samples=samples,
            params=SamplingParams(),
            group_judge=judge,
        )
        return list(groups[0].episodes)

    return asyncio.run(run())


def test_an_episode_keeps_what_was_judged_and_what_was_given() -> None:
    (episode,) = played([{"a": (1, "é")}], None, samples=1)
    assert episode.result == WorkflowResult(output={"a": [1, "é"]}, metrics={"steps": 2})
    assert [(gift.agent, gift.amount, gift.call) for gift in episode.given] == [("ann", 0.5, 0)]
    assert episode.rewards == {"ann": 1.5}


@pytest.mark.parametrize("output", [object(), math.nan, {"a": {1, 2}}])
def test_an_output_that_json_cannot_hold_is_not_kept(output: JsonValue) -> None:
    assert kept_result(WorkflowResult(output=output)) is None
    (episode,) = played([output], None, samples=1)
    assert (episode.status, episode.result) == (EpisodeStatus.COMPLETED, None)


class Faulty(ByLength):
    """A judge of a user's that raises, or forgets an episode."""

    def __init__(self, *, forgets: bool) -> None:
        super().__init__()
        self._forgets = forgets

    async def score_group(self, task: Task, results: Sequence[WorkflowResult]) -> list[Score]:
        scores = await super().score_group(task, results)
        if self._forgets:
            return scores[1:]
        raise KeyError("no such thing")


@pytest.mark.parametrize(
    ("forgets", "reason"),
    [(False, r"JudgeError: judge raised: KeyError\('no such thing'\)"), (True, "zip")],
)
def test_whatever_a_judge_of_groups_raises_drops_the_group_and_not_the_run(
    forgets: bool, reason: str
) -> None:
    episodes = played(["a", "bbb"], Faulty(forgets=forgets), samples=2)
    assert {episode.status for episode in episodes} == {EpisodeStatus.FAILED}
    for episode in episodes:
        assert re.search(reason, episode.reason)


def test_a_group_of_which_nothing_is_left_is_not_compared() -> None:
    judge = ByLength()
    episodes = played(["fail", "fail"], judge, samples=2)
    assert judge.groups == []
    assert all(episode.reason.startswith("WorkflowError") for episode in episodes)


def test_a_group_is_compared_when_all_of_it_has_ended() -> None:
    judge = ByLength()
    episodes = played(["a", "bbb", "fail"], judge)
    assert judge.groups == [("t-0", ["a", "bbb"])]
    assert [episode.rewards for episode in episodes] == [{"ann": 1.5}, {"ann": 3.5}, {}]
    assert episodes[0].call_rewards == {"ann": (0.5, 0.0)}  # what the workflow gave stays
    assert episodes[0].success is True  # its own judge says so
    assert episodes[0].metrics == {
        "workflow/steps": 2,
        "judge/group/n": 1.0,
        "judge/alone": 1.5,
    }
    assert episodes[2].reason.startswith("WorkflowError")


def test_a_group_that_cannot_be_compared_is_dropped_and_not_scored() -> None:
    episodes = played(["a", "bbb", "fail"], ByLength(JudgeError("no verdict")))
    assert [episode.status for episode in episodes] == [EpisodeStatus.FAILED] * 3
    assert episodes[0].reason == "JudgeError: no verdict"
    assert episodes[2].reason.startswith("WorkflowError")
    assert all(episode.rewards == {} for episode in episodes)
    assert len(episodes[0].calls) == 2


def test_a_judge_of_groups_that_is_broken_for_good_ends_the_run() -> None:
    with pytest.raises(BrokenJudgeError, match="its model has died"):
        played(["a", "bbb"], ByLength(BrokenJudgeError("its model has died")), samples=2)


def test_outputs_that_were_not_kept_cannot_be_compared() -> None:
    judge = ByLength()
    (episode,) = played([object()], judge, samples=1)  # type: ignore[list-item]
    assert episode.reason.startswith("JudgeError: task t-0: episodes can be compared only if")
    assert judge.groups == []


def test_another_judge_replaces_the_score_and_keeps_what_was_given() -> None:
    (episode,) = played(["a"], None, samples=1)
    score = Score(
        rewards={"ann": -1.0, "bob": 7.0},
        success=False,
        metrics={"polite": 0.0},
        call_rewards={"ann": [0.25, -1.25], "bob": [7.0]},
    )
    again = rejudged(episode, score)
    assert again.rewards == {"ann": -0.5}
    assert again.call_rewards == {"ann": (0.75, -1.25)}
    assert again.success is False
    assert again.metrics == {"workflow/steps": 2, "judge/polite": 0.0}
    assert again.calls == episode.calls


def test_another_judge_must_reward_every_agent() -> None:
    (episode,) = played(["a"], None, samples=1)
    with pytest.raises(JudgeError, match="finite reward"):
        rejudged(episode, Score(rewards={"bob": 1.0}, success=False))

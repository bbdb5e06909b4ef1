"""One episode: every way in which it can end, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from agentscope.agent import Agent, InjectionConfig
from agentscope.message import UserMsg

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.errors import (
    BrokenJudgeError,
    EpisodeLimitError,
    ServiceLostError,
    SettingError,
    TaskDataError,
)
from astuner_gym.judge import FunctionJudge, Score
from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.errors import (
    BrokenSamplerError,
    ContextOverflowError,
    RenderingError,
    SamplerError,
)
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.episode_runner import DEADLINE_REASON, EpisodeRunner
from astuner_rl.tracking.training_data import training_data
from astuner_rl.types import Episode, EpisodeKey, EpisodeStatus, Group, SamplingParams

RunnerOf: TypeAlias = Callable[..., tuple[EpisodeRunner, Any]]

KEY = EpisodeKey("train", 3, 1, 2)
TASK = Task(id="t-1", record={"question": "Hello?"})


async def hello(key: EpisodeKey, call: ChatCall) -> ChatReply:
    return ChatReply(text=f"hello {call.index}")


async def greet(task: Task, models: Models) -> WorkflowResult:
    """Two turns of a real agent."""
    agent = Agent(
        "ann", "", models["ann"], injection_config=InjectionConfig(inject_runtime_state=False)
    )
    await agent.reply(UserMsg("user", task.text("question")))
    message = await agent.reply(UserMsg("user", "Again?"))
    return WorkflowResult(output=message.get_text_content(), metrics={"turns": 2})


def run(runner: EpisodeRunner) -> Episode:
    """Run the episode, and check that it leaves no task of its own behind."""

    async def watched() -> Episode:
        episode = await runner.run(TASK, KEY, params=SamplingParams(temperature=0.5))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return episode

    return asyncio.run(watched())


def test_an_episode_is_run_judged_and_released(runner_of: RunnerOf) -> None:
    def judge(task: Task, result: WorkflowResult) -> Score:
        assert result.output == "hello 1"
        return Score(rewards={"*": 0.25}, success=True, metrics={"exact": 1.0})

    runner, policy = runner_of(greet, hello, judge=FunctionJudge(judge))
    episode = run(runner)
    assert episode == Episode(
        key=KEY,
        task_id="t-1",
        calls=episode.calls,
        status=EpisodeStatus.COMPLETED,
        rewards={"ann": 0.25},
        success=True,
        metrics={"workflow/turns": 2, "judge/exact": 1.0},
        result=WorkflowResult(output="hello 1", metrics={"turns": 2}),
    )
    assert [record.params.temperature for record in episode.calls] == [0.5, 0.5]
    assert policy.opened == policy.released == [KEY]


def test_a_reward_by_call_reaches_the_call_that_earned_it(runner_of: RunnerOf) -> None:
    def judge(task: Task, result: WorkflowResult) -> Score:
        return Score(rewards={"*": 1.0}, success=True, call_rewards={"ann": [0.25, 0.0]})

    runner, _ = runner_of(greet, hello, judge=FunctionJudge(judge))
    episode = run(runner)
    assert episode.call_rewards == {"ann": (0.25, 0.0)}
    data = training_data([Group(task_id="t-1", episodes=(episode,))], trainable=None)
    (unit,) = data.agent_episodes
    spans = [span for timeline in unit.timelines for span in timeline.spans]
    assert [(span.call, span.reward) for span in spans] == [(0, 0.25), (1, 0.0)]


def test_a_judge_that_invents_a_call_fails_the_episode(runner_of: RunnerOf) -> None:
    def judge(task: Task, result: WorkflowResult) -> Score:
        return Score(rewards={"*": 1.0}, success=True, call_rewards={"ann": [0.25, 0.25, 0.25]})

    runner, _ = runner_of(greet, hello, judge=FunctionJudge(judge))
    assert "each reward must belong to a call, got 3 rewards for 'ann'" in failed(run(runner))


@pytest.mark.parametrize("failures", [1, 2])
def test_a_failed_episode_is_tried_again(runner_of: RunnerOf, failures: int) -> None:
    async def flaky(key: EpisodeKey, call: ChatCall) -> ChatReply:
        if len(policy.opened) <= failures and call.index == 1:
            raise SamplerError("try later")
        return ChatReply(text="hello")

    runner, policy = runner_of(greet, flaky, config=RolloutConfig(attempts=3))
    episode = run(runner)
    assert (episode.status, episode.reason) == (EpisodeStatus.COMPLETED, "")
    assert episode.attempts == failures + 1
    assert len(episode.calls) == 2  # those of the last attempt alone
    assert policy.opened == policy.released == [KEY] * (failures + 1)


def failed(episode: Episode) -> str:
    """Check that an episode is dropped without a verdict, and return its reason."""
    assert episode.status is EpisodeStatus.FAILED
    assert (episode.rewards, episode.success, episode.metrics) == ({}, False, {})
    return episode.reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SamplerError("the server is gone"), "SamplerError: the server is gone"),
        (RenderingError("no such role"), "RenderingError: no such role"),
        (ContextOverflowError("9 of 8 tokens"), "ContextOverflowError: 9 of 8 tokens"),
    ],
)
def test_what_the_policy_cannot_answer_is_dropped_with_its_reason(
    runner_of: RunnerOf, error: Exception, reason: str
) -> None:
    async def refuse(key: EpisodeKey, call: ChatCall) -> ChatReply:
        raise error

    runner, policy = runner_of(greet, refuse, config=RolloutConfig(attempts=2))
    episode = run(runner)
    assert failed(episode) == reason
    assert episode.attempts == 2
    assert policy.opened == policy.released == [KEY, KEY]


def test_a_workflow_that_raises_is_dropped_with_its_calls(runner_of: RunnerOf) -> None:
    async def broken(task: Task, models: Models) -> WorkflowResult:
        await greet(task, models)
        raise KeyError("answer")

    runner, policy = runner_of(broken, hello)
    episode = run(runner)
    assert failed(episode) == "WorkflowError: workflow raised on task t-1: KeyError('answer')"
    assert not episode.by_chance
    assert len(episode.calls) == 2  # for the account of tokens
    assert policy.released == [KEY]


def test_a_judge_that_raises_drops_the_episode(runner_of: RunnerOf) -> None:
    def judge(task: Task, result: WorkflowResult) -> float:
        raise ZeroDivisionError

    runner, policy = runner_of(greet, hello, judge=FunctionJudge(judge))
    assert failed(run(runner)) == "JudgeError: judge raised on task t-1: ZeroDivisionError()"
    assert policy.released == [KEY]


def test_an_agent_without_a_reward_drops_the_episode(runner_of: RunnerOf) -> None:
    judge = FunctionJudge(lambda task, result: Score(rewards={"bob": 1.0}, success=True))
    runner, _ = runner_of(greet, hello, judge=judge)
    assert "each agent needs a finite reward, got nan for 'ann'" in failed(run(runner))


def test_the_deadline_fails_an_attempt_whatever_the_workflow_makes_of_it(
    runner_of: RunnerOf,
) -> None:
    async def silent(key: EpisodeKey, call: ChatCall) -> ChatReply:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")

    # AgentScope answers the cancelled call with an apology, as if nothing had happened.
    runner, policy = runner_of(greet, silent, config=RolloutConfig(attempts=2, deadline_s=0.05))
    episode = run(runner)
    assert failed(episode).startswith(DEADLINE_REASON)
    assert "0.05 s (rollout.deadline_s)" in episode.reason
    # A second attempt that was in time would hide that the clock has had its say.
    assert (episode.by_chance, episode.attempts) == (True, 1)
    assert policy.released == [KEY]


class Lossy:
    """A workflow and a judge whose service is lost, each time or but once."""

    def __init__(self, where: str, *, times: int = 99) -> None:
        self._where = where
        self._left = times

    def _use(self, where: str) -> None:
        if where == self._where and self._left > 0:
            self._left -= 1
            raise ServiceLostError("it has ended")

    async def play(self, task: Task, models: Models) -> WorkflowResult:
        self._use("workflow")
        try:
            self._use("workflow, named otherwise")
        except ServiceLostError as error:
            raise RuntimeError("no world") from error
        return await greet(task, models)

    def score(self, task: Task, result: WorkflowResult) -> float:
        self._use("judge")
        return 1.0


@pytest.mark.parametrize("where", ["workflow", "workflow, named otherwise", "judge"])
def test_a_service_that_is_lost_fails_an_episode_by_chance(runner_of: RunnerOf, where: str) -> None:
    lossy = Lossy(where)
    runner, _ = runner_of(
        lossy.play, hello, judge=FunctionJudge(lossy.score), config=RolloutConfig(attempts=2)
    )
    episode = run(runner)
    assert failed(episode)
    assert (episode.by_chance, episode.attempts) == (True, 2)


def test_a_service_that_is_lost_once_leaves_the_episode_as_it_is(runner_of: RunnerOf) -> None:
    lossy = Lossy("workflow", times=1)
    runner, _ = runner_of(lossy.play, hello, config=RolloutConfig(attempts=2))
    episode = run(runner)
    assert episode.status is EpisodeStatus.COMPLETED
    assert (episode.by_chance, episode.attempts) == (False, 2)


def test_the_deadline_covers_the_judge(runner_of: RunnerOf) -> None:
    async def judge(task: Task, result: WorkflowResult) -> float:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")

    config = RolloutConfig(attempts=1, deadline_s=0.05)
    runner, _ = runner_of(greet, hello, judge=FunctionJudge(judge), config=config)
    assert failed(run(runner)).startswith(DEADLINE_REASON)


def judge_what_is_there(task: Task, result: WorkflowResult) -> float:
    return 0.0 if result.truncated else 1.0


def test_the_budget_of_calls_truncates(runner_of: RunnerOf) -> None:
    runner, policy = runner_of(
        greet,
        hello,
        judge=FunctionJudge(judge_what_is_there),
        config=RolloutConfig(attempts=3, max_calls=1),
    )
    episode = run(runner)
    assert episode.status is EpisodeStatus.TRUNCATED
    assert "rollout.max_calls" in episode.reason
    assert (episode.rewards, episode.success, episode.attempts) == ({"ann": 0.0}, False, 1)
    assert policy.opened == policy.released == [KEY]


def test_a_context_that_fills_up_later_truncates(runner_of: RunnerOf) -> None:
    async def fill(key: EpisodeKey, call: ChatCall) -> ChatReply:
        if call.index == 1:
            raise ContextOverflowError("9 of 8 tokens")
        return ChatReply(text="hello")

    runner, _ = runner_of(greet, fill, judge=FunctionJudge(judge_what_is_there))
    episode = run(runner)
    assert episode.status is EpisodeStatus.TRUNCATED
    assert len(episode.calls) == 1
    assert episode.rewards == {"ann": 0.0}


async def patient(task: Task, models: Models) -> WorkflowResult:
    """Speaks until a limit forbids it, and says how often."""
    said = 0
    while True:
        try:
            await models["ann"]([UserMsg("user", "Go on.")])
        except EpisodeLimitError:
            models.accept_limit()
            return WorkflowResult(output=said)
        said += 1


def test_a_workflow_may_take_a_limit_as_its_end(runner_of: RunnerOf) -> None:
    def judge(task: Task, result: WorkflowResult) -> float:
        assert isinstance(result.output, int)
        return result.output / 4

    runner, _ = runner_of(
        patient, hello, judge=FunctionJudge(judge), config=RolloutConfig(max_calls=2)
    )
    episode = run(runner)
    assert (episode.status, episode.rewards) == (EpisodeStatus.COMPLETED, {"ann": 0.5})
    assert len(episode.calls) == 2


def test_an_agent_meets_its_limit_as_the_workflow_does(runner_of: RunnerOf) -> None:
    async def agent_of(task: Task, models: Models) -> WorkflowResult:
        agent = Agent(
            "ann", "", models["ann"], injection_config=InjectionConfig(inject_runtime_state=False)
        )
        await agent.reply(UserMsg("user", "Hello?"))
        with pytest.raises(EpisodeLimitError):
            await agent.reply(UserMsg("user", "Again?"))
        models.accept_limit()
        return WorkflowResult(output="")

    runner, _ = runner_of(agent_of, hello, config=RolloutConfig(max_calls=1))
    assert run(runner).status is EpisodeStatus.COMPLETED


def test_after_a_limit_was_taken_nothing_more_can_be_asked(runner_of: RunnerOf) -> None:
    async def greedy(task: Task, models: Models) -> WorkflowResult:
        await patient(task, models)
        await models["ann"]([UserMsg("user", "One more?")])
        raise AssertionError

    runner, _ = runner_of(greedy, hello, config=RolloutConfig(attempts=1, max_calls=2))
    assert "nothing can follow the end of its episode" in failed(run(runner))


def test_a_first_prompt_that_does_not_fit_is_no_end(runner_of: RunnerOf) -> None:
    async def full(key: EpisodeKey, call: ChatCall) -> ChatReply:
        raise ContextOverflowError("9 of 8 tokens")

    runner, _ = runner_of(patient, full, config=RolloutConfig(attempts=1))
    assert failed(run(runner)) == "ContextOverflowError: 9 of 8 tokens"


def test_a_limit_can_be_taken_only_where_there_was_one(runner_of: RunnerOf) -> None:
    async def hasty(task: Task, models: Models) -> WorkflowResult:
        await models["ann"]([UserMsg("user", "Hello?")])
        models.accept_limit()
        raise AssertionError

    runner, _ = runner_of(hasty, hello, config=RolloutConfig(attempts=1))
    assert "accept_limit must follow a call that a limit has refused" in failed(run(runner))


def test_a_judge_that_cannot_judge_a_truncated_episode_drops_it(runner_of: RunnerOf) -> None:
    class Naive:
        """A user's own class: nothing wraps what it raises."""

        async def score(self, task: Task, result: WorkflowResult) -> Score:
            assert isinstance(result.output, str)
            return Score(rewards={"*": 1.0}, success=True)

    runner, _ = runner_of(
        greet, hello, judge=Naive(), config=RolloutConfig(attempts=1, max_calls=1)
    )
    assert failed(run(runner)).startswith("JudgeError: judge raised on task t-1: AssertionError")


def test_a_workflow_may_say_that_it_was_cut_short(runner_of: RunnerOf) -> None:
    async def hurried(task: Task, models: Models) -> WorkflowResult:
        await models["ann"]([UserMsg("user", "Hi.")])
        return WorkflowResult(output=None, truncated=True)

    runner, _ = runner_of(hurried, hello)
    episode = run(runner)
    assert (episode.status, episode.rewards) == (EpisodeStatus.TRUNCATED, {"ann": 1.0})


def test_a_background_call_is_cancelled_at_the_end(runner_of: RunnerOf) -> None:
    async def slow(key: EpisodeKey, call: ChatCall) -> ChatReply:
        if call.agent == "bob":
            await asyncio.Event().wait()
            raise AssertionError("nobody sets the event")
        return ChatReply(text="hello")

    async def careless(task: Task, models: Models) -> WorkflowResult:
        forgotten.append(asyncio.create_task(models["bob"]([UserMsg("user", "Hi.")])))
        await models["ann"]([UserMsg("user", "Hi.")])
        return WorkflowResult(output=None)

    forgotten: list[asyncio.Task[object]] = []
    runner, _ = runner_of(careless, slow)

    async def watched() -> Episode:
        episode = await runner.run(TASK, KEY, params=SamplingParams())
        _, pending = await asyncio.wait(forgotten, timeout=10)
        assert not pending
        return episode

    episode = asyncio.run(watched())
    assert episode.status is EpisodeStatus.COMPLETED
    assert [record.call.agent for record in episode.calls] == ["ann"]


@pytest.mark.parametrize("error", [TaskDataError("no field"), SettingError("bad setting")])
def test_unusable_input_ends_the_run(runner_of: RunnerOf, error: Exception) -> None:
    async def unusable(task: Task, models: Models) -> WorkflowResult:
        raise error

    runner, policy = runner_of(unusable, hello, config=RolloutConfig(attempts=3))
    with pytest.raises(type(error)):
        run(runner)
    assert policy.opened == policy.released == [KEY]


def test_a_sampler_that_is_broken_for_good_ends_the_run(runner_of: RunnerOf) -> None:
    async def broken(key: EpisodeKey, call: ChatCall) -> ChatReply:
        raise BrokenSamplerError("its engine has died")

    runner, policy = runner_of(greet, broken, config=RolloutConfig(attempts=3))
    with pytest.raises(BrokenSamplerError, match="its engine has died"):
        run(runner)
    assert policy.opened == policy.released == [KEY]


def test_a_judge_that_is_broken_for_good_ends_the_run(runner_of: RunnerOf) -> None:
    async def broken(task: Task, result: WorkflowResult) -> float:
        raise BrokenJudgeError("its model has died")

    judge = FunctionJudge(broken)
    runner, policy = runner_of(greet, hello, judge=judge, config=RolloutConfig(attempts=3))
    with pytest.raises(BrokenJudgeError, match="its model has died"):
        run(runner)
    assert policy.opened == policy.released == [KEY]


def test_a_cancelled_episode_is_released(runner_of: RunnerOf) -> None:
    async def silent(key: EpisodeKey, call: ChatCall) -> ChatReply:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")

    runner, policy = runner_of(greet, silent)

    async def cancelled() -> None:
        running = asyncio.create_task(runner.run(TASK, KEY, params=SamplingParams()))
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(cancelled())
    assert policy.released == [KEY]

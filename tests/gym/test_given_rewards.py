"""Rewards that fall while an episode runs, and agents that leave: both readings agree."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping

import pytest
from agentscope.message import UserMsg
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.env import WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.episode import run_episode
from astuner_gym.errors import EpisodeClosedError, JudgeError, WorkflowError
from astuner_gym.judge import FunctionJudge, Judge, Score
from astuner_gym.task import RecordTasks, Task
from astuner_gym.vector import VectorWorkflowEnv
from astuner_gym.workflow import Models, WorkflowResult

Program = Callable[[Task, Models], Awaitable[WorkflowResult]]
DONE = WorkflowResult(output=None)


class Scripted:
    """A workflow from a function."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        return await self._program(task, models)


class Silent:
    async def respond(self, call: ChatCall) -> ChatReply:
        return ChatReply(text="")


async def ask(models: Models, *agents: str) -> None:
    await asyncio.gather(*(models[agent]([UserMsg("user", "Go.")]) for agent in agents))


async def elimination(task: Task, models: Models) -> WorkflowResult:
    """Ann and Bob act; Bob is paid and leaves; Ann acts twice more, and is paid for the second."""
    await ask(models, "Ann", "Bob")
    models.reward("Bob", -0.5)
    models.leave("Bob")
    await ask(models, "Ann")
    models.reward("Ann", 0.25)
    models.reward("Ann", 0.25)
    await ask(models, "Ann")
    models.reward("Ann", 2.0)
    return DONE


TEAM = FunctionJudge(lambda task, result: Score(rewards={"Ann": 1.0, "*": 4.0}, success=True))


def environment(program: Program, *, judge: Judge = TEAM) -> Environment:
    return Environment(
        name="test",
        workflow=Scripted(program),
        judge=judge,
        train_tasks=RecordTasks("t", [{"question": "?"}]),
    )


def scored(program: Program, *, judge: Judge = TEAM) -> Score:
    task = Task(id="t-0", record={})
    return asyncio.run(run_episode(Scripted(program), judge, task, Silent())).score


def test_rewards_come_in_the_step_in_which_they_fall_and_who_left_is_terminated() -> None:
    with WorkflowEnv(environment(elimination)) as env:
        env.reset()
        observations, rewards, terminations, truncations, infos = env.step({"Ann": "", "Bob": ""})
        assert list(observations) == ["Ann"]
        assert rewards == {"Ann": 0.0, "Bob": -0.5}
        assert terminations == {"Ann": False, "Bob": True}
        assert truncations == {"Ann": False, "Bob": False}
        assert infos["Bob"] == {"task": "t-0"}
        observations, rewards, terminations, _, infos = env.step({"Ann": ""})
        assert (list(observations), rewards, terminations) == (
            ["Ann"],
            {"Ann": 0.5},
            {"Ann": False},
        )
        observations, rewards, terminations, truncations, _ = env.step({"Ann": ""})
        assert observations == {}
        assert rewards == {"Ann": 3.0, "Bob": 4.0}
        assert terminations == {"Ann": True, "Bob": True}
        assert truncations == {"Ann": False, "Bob": False}


def test_a_score_holds_what_was_given_at_the_latest_calls() -> None:
    score = scored(elimination)
    assert score.rewards == {"Ann": 3.5, "Bob": 3.5, "*": 4.0}
    assert score.rewards_by_call(calls={"Ann": 3, "Bob": 1}) == {
        "Ann": (0.0, 0.5, 2.0),
        "Bob": (-0.5,),
    }


def test_given_rewards_are_added_to_those_that_the_judge_puts_at_calls() -> None:
    judge = FunctionJudge(
        lambda task, result: Score(
            rewards={"*": 1.0}, success=True, call_rewards={"Ann": [0.5], "Bob": [1.0]}
        )
    )
    assert scored(elimination, judge=judge).call_rewards == {
        "Ann": [0.5, 0.5, 2.0],
        "Bob": [0.5],
    }


def test_a_reward_before_the_first_call_counts_for_it_and_comes_with_the_first_step() -> None:
    async def endowed(task: Task, models: Models) -> WorkflowResult:
        models.reward("Ann", 2.0)
        await ask(models, "Ann")
        await ask(models, "Ann")
        return DONE

    assert scored(endowed).rewards_by_call(calls={"Ann": 2}) == {"Ann": (2.0, 0.0)}
    with WorkflowEnv(environment(endowed)) as env:
        env.reset()
        assert env.step({"Ann": ""})[1] == {"Ann": 2.0}
        assert env.step({"Ann": ""})[1] == {"Ann": 1.0}


def test_an_agent_that_never_acts_may_be_rewarded_and_leave() -> None:
    async def watched(task: Task, models: Models) -> WorkflowResult:
        await ask(models, "Ann")
        models.reward("Zoe", 1.0)
        models.leave("Zoe")
        await ask(models, "Ann")
        return DONE

    with WorkflowEnv(environment(watched)) as env:
        env.reset()
        _, rewards, terminations, _, _ = env.step({"Ann": ""})
        assert (rewards, terminations) == ({"Ann": 0.0, "Zoe": 1.0}, {"Ann": False, "Zoe": True})
        assert env.step({"Ann": ""})[1] == {"Ann": 1.0, "Zoe": 4.0}


def test_who_left_stays_terminated_when_it_is_rewarded_later_or_the_episode_fails() -> None:
    async def late(task: Task, models: Models) -> WorkflowResult:
        await ask(models, "Ann", "Bob")
        models.leave("Bob")
        await ask(models, "Ann")
        models.reward("Bob", 1.0)
        await ask(models, "Ann")
        raise ValueError("it fails")

    with VectorWorkflowEnv(environment(late), 1) as env:
        env.reset()
        assert env.step([{"Ann": "", "Bob": ""}])[0][2] == {"Ann": False, "Bob": True}
        _, rewards, terminations, _, _ = env.step([{"Ann": ""}])[0]
        assert (rewards["Bob"], terminations) == (1.0, {"Ann": False, "Bob": True})
        _, _, terminations, truncations, _ = env.step([{"Ann": ""}])[0]
        assert terminations == {"Ann": False, "Bob": True}
        assert truncations == {"Ann": True, "Bob": False}


def test_agents_that_are_not_stepped_are_rewarded_out_of_sight() -> None:
    with WorkflowEnv(environment(elimination), controlled=("Ann",), opponent=Silent()) as env:
        env.reset()
        assert env.step({"Ann": ""})[1] == {"Ann": 0.0}
        env.step({"Ann": ""})
        assert env.step({"Ann": ""})[1] == {"Ann": 3.0}


def test_who_left_is_not_truncated_with_the_episode() -> None:
    async def cut_short(task: Task, models: Models) -> WorkflowResult:
        await ask(models, "Ann", "Bob")
        models.leave("Bob")
        return WorkflowResult(output=None, truncated=True)

    with WorkflowEnv(environment(cut_short)) as env:
        env.reset()
        _, _, terminations, truncations, _ = env.step({"Ann": "", "Bob": ""})
        assert terminations == {"Ann": False, "Bob": True}
        assert truncations == {"Ann": True, "Bob": False}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from(["Ann", "Bob", "Cat"]), min_size=1),
            st.lists(st.tuples(st.sampled_from(["Ann", "Bob", "Cat"]), st.integers(-8, 8))),
        ),
        max_size=5,
    )
)
def test_stepped_rewards_add_up_to_the_score(
    rounds: list[tuple[set[str], list[tuple[str, int]]]],
) -> None:
    async def play(task: Task, models: Models) -> WorkflowResult:
        for asked, gifts in rounds:
            await ask(models, *sorted(asked))
            for agent, eighths in gifts:
                models.reward(agent, eighths / 8)
        return DONE

    score = scored(play)
    calls: Mapping[str, int] = {
        agent: sum(agent in asked for asked, _ in rounds) for agent in ("Ann", "Bob", "Cat")
    }
    for agent, by_call in score.rewards_by_call(calls=calls).items():
        given_to = [eighths / 8 for _, gifts in rounds for name, eighths in gifts if name == agent]
        assert sum(by_call) == sum(given_to)
    totals: dict[str, float] = {}
    with WorkflowEnv(environment(play)) as env:
        observations, _ = env.reset()
        ended = False
        while not ended:
            observations, rewards, *_ = env.step(dict.fromkeys(observations, ""))
            ended = not observations
            for agent, reward in rewards.items():
                totals[agent] = totals.get(agent, 0.0) + reward
    assert totals == {agent: score.reward(agent) for agent in totals}
    assert totals.keys() >= {agent for asked, _ in rounds for agent in asked}


async def asked_after_leaving(task: Task, models: Models) -> WorkflowResult:
    await ask(models, "Ann")
    models.leave("Ann")
    models.leave("Ann")
    try:
        await ask(models, "Ann")
    except WorkflowError:
        return DONE  # the workflow hides it, as an AgentScope tool would
    return DONE


async def leaves_while_asked(task: Task, models: Models) -> WorkflowResult:
    asking = asyncio.ensure_future(ask(models, "Ann"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    models.leave("Ann")
    await asking
    return DONE


def pays(amount: object) -> Program:
    async def pay(task: Task, models: Models) -> WorkflowResult:
        await ask(models, "Ann")
        models.reward("Ann", amount)  # type: ignore[arg-type]
        return DONE

    return pay


@pytest.mark.parametrize(
    ("program", "rule"),
    [
        (asked_after_leaving, "an agent that has left makes no further call, got call 1 of 'Ann'"),
        (pays(math.nan), "a reward must be a finite number, got nan for 'Ann'"),
        (pays(math.inf), "a reward must be a finite number, got inf for 'Ann'"),
        (pays("much"), "a reward must be a finite number, got 'much' for 'Ann'"),
    ],
)
def test_rules_of_giving_and_leaving_hold_in_both_readings(program: Program, rule: str) -> None:
    with pytest.raises(WorkflowError, match=rule):
        scored(program)
    with WorkflowEnv(environment(program)) as env, pytest.raises(WorkflowError, match=rule):
        env.reset()
        env.step({"Ann": ""})


def test_an_agent_with_an_open_call_cannot_leave() -> None:
    rule = "must not leave while it is asked, and a call of 'Ann' is open"
    with (
        WorkflowEnv(environment(leaves_while_asked)) as env,
        pytest.raises(WorkflowError, match=rule),
    ):
        env.reset()


@pytest.mark.parametrize("rewarded", [True, False])
def test_who_is_rewarded_or_leaves_must_be_judged(rewarded: bool) -> None:
    async def play(task: Task, models: Models) -> WorkflowResult:
        await ask(models, "Ann")
        if rewarded:
            models.reward("Bob", 1.0)
        else:
            models.leave("Bob")
        return DONE

    judge = FunctionJudge(lambda task, result: Score(rewards={"Ann": 1.0}, success=True))
    rule = "each agent needs a finite reward, got nan for 'Bob'"
    with pytest.raises(JudgeError, match=rule):
        scored(play, judge=judge)
    with WorkflowEnv(environment(play, judge=judge)) as env, pytest.raises(JudgeError, match=rule):
        env.reset()
        env.step({"Ann": ""})


def test_nothing_is_given_after_the_end() -> None:
    kept: list[Models] = []

    async def keep(task: Task, models: Models) -> WorkflowResult:
        kept.append(models)
        return DONE

    scored(keep)
    with pytest.raises(EpisodeClosedError, match="a reward of 'Ann'"):
        kept[0].reward("Ann", 1.0)
    with pytest.raises(EpisodeClosedError, match="that 'Ann' leaves"):
        kept[0].leave("Ann")

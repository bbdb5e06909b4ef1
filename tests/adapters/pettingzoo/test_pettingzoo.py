"""Workflows as PettingZoo environments, by PettingZoo's own tests and step by step."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator, Mapping

import pytest
from agentscope.message import UserMsg
from gymnasium.error import InvalidAction, ResetNeeded
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_envs.werewolves import WerewolvesConfig
from astuner_gym.adapters.pettingzoo import AECWorkflowEnv, ParallelWorkflowEnv
from astuner_gym.env import WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError, WorkflowError
from astuner_gym.judge import Score
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, Workflow, WorkflowResult

AGENTS = ("Ann", "Bob", "Cat")
ADVICE = (
    "Observation is not a NumPy array",
    ".* space for each agent probably should be gymnasium.spaces.box",
    "We recommend agents to be named in the format <descriptor>_<number>",
    "Environment has not defined a render",
)
"""What ``api_test`` says of any environment of text with named agents: no fault, to it."""


async def say(models: Models, agent: str, text: str) -> str:
    response = await models[agent]([UserMsg("user", text)])
    return str(response.content[0].text)  # type: ignore[union-attr]


class Debate:
    """Ann and Bob speak at once, then Bob alone; Cat never does."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        words = "You first."
        ann, bob = await asyncio.gather(say(models, "Ann", words), say(models, "Bob", words))
        last = await say(models, "Bob", f"Ann said {ann}.")
        return WorkflowResult(output=[ann, bob, last], truncated=last == "too long")


class LongestWins:
    async def score(self, task: Task, result: WorkflowResult) -> Score:
        ann, bob, _ = result.output  # type: ignore[misc]
        return Score(
            rewards={"Ann": float(len(ann) > len(bob)), "Bob": float(len(bob) > len(ann))},
            success=True,
        )


def debate(*, agents: tuple[str, ...] = AGENTS, workflow: Workflow | None = None) -> Environment:
    return Environment(
        name="debate",
        workflow=workflow or Debate(),
        judge=LongestWins(),
        train_tasks=RecordTasks("t", [{}, {}, {}]),
        agents=agents,
    )


ENVIRONMENTS: Mapping[str, Callable[[], Environment]] = {
    "debate": debate,
    "debate that Ann leaves": lambda: debate(workflow=DebateThatAnnLeaves()),
    "gsm8k": lambda: Gsm8kConfig().build(),
    "werewolves, wolves": lambda: WerewolvesConfig().build(),
    "werewolves, all nine": lambda: WerewolvesConfig(players=9, trainable=None).build(),
}


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> Environment:
    return ENVIRONMENTS[request.param]()


@pytest.fixture
def parallel() -> Iterator[ParallelWorkflowEnv]:
    env = ParallelWorkflowEnv(WorkflowEnv(debate()))
    yield env
    env.close()


@pytest.fixture
def aec() -> Iterator[AECWorkflowEnv]:
    env = AECWorkflowEnv(WorkflowEnv(debate()))
    yield env
    env.close()


def test_parallel_api_test(environment: Environment) -> None:
    env = ParallelWorkflowEnv(WorkflowEnv(environment))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(env, num_cycles=60)
    env.close()


def test_parallel_seed_test(environment: Environment) -> None:
    parallel_seed_test(lambda: ParallelWorkflowEnv(WorkflowEnv(environment)), num_cycles=20)


def test_api_test(environment: Environment) -> None:
    env = AECWorkflowEnv(WorkflowEnv(environment))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for advice in ADVICE:
            warnings.filterwarnings("ignore", advice)
        api_test(env, num_cycles=60)
    env.close()


def test_seed_test(environment: Environment) -> None:
    seed_test(lambda: AECWorkflowEnv(WorkflowEnv(environment)), num_cycles=20)


def test_those_who_wait_read_nothing_and_their_actions_are_ignored(
    parallel: ParallelWorkflowEnv,
) -> None:
    observations, infos = parallel.reset(seed=0, options={"difficulty": "hard", "task": 1})
    assert parallel.agents == ["Ann", "Bob", "Cat"]
    assert observations["Ann"] == {"text": "user: You first."}
    assert observations["Cat"] == {"text": ""}
    assert [agent for agent in AGENTS if "call" in infos[agent]] == ["Ann", "Bob"]
    assert infos["Ann"]["task"] == "t-1"
    observations, rewards, terminations, truncations, infos = parallel.step(
        {"Ann": "much", "Bob": "no", "Cat": "hear me"}
    )
    assert observations == {
        "Ann": {"text": ""},
        "Bob": {"text": "user: Ann said much."},
        "Cat": {"text": ""},
    }
    assert rewards == dict.fromkeys(AGENTS, 0.0)
    assert terminations == truncations == dict.fromkeys(AGENTS, False)
    assert infos.keys() == {*AGENTS}
    observations, rewards, terminations, truncations, infos = parallel.step({"Bob": "ok"})
    assert observations == {agent: {"text": ""} for agent in AGENTS}
    assert rewards == {"Ann": 1.0, "Bob": 0.0, "Cat": 0.0}
    assert terminations == dict.fromkeys(AGENTS, True)
    assert truncations == dict.fromkeys(AGENTS, False)
    assert parallel.agents == []


def test_who_never_acted_is_truncated_with_the_episode(parallel: ParallelWorkflowEnv) -> None:
    parallel.reset()
    parallel.step({"Ann": "a", "Bob": "b"})
    _, _, terminations, truncations, _ = parallel.step({"Bob": "too long"})
    assert terminations == dict.fromkeys(AGENTS, False)
    assert truncations == dict.fromkeys(AGENTS, True)


def test_an_agent_who_must_act_must_act(parallel: ParallelWorkflowEnv) -> None:
    with pytest.raises(ResetNeeded):
        parallel.step({"Ann": "a"})
    parallel.reset()
    with pytest.raises(InvalidAction, match="Bob"):
        parallel.step({"Ann": "a", "Cat": "c"})


def test_those_who_act_at_once_are_selected_in_turn_and_the_idle_one_never(
    aec: AECWorkflowEnv,
) -> None:
    aec.reset(seed=0, options={"task": 2})
    turns = []
    for agent in aec.agent_iter():
        observation, reward, terminated, truncated, _ = aec.last()
        turns.append((agent, observation["text"], reward, terminated or truncated))
        aec.step(None if terminated or truncated else f"{agent} speaks"[: 3 + len(turns)])
    assert turns == [
        ("Ann", "user: You first.", 0.0, False),
        ("Bob", "user: You first.", 0.0, False),
        ("Bob", "user: Ann said Ann .", 0.0, False),
        ("Ann", "", 0.0, True),
        ("Bob", "", 1.0, True),
        ("Cat", "", 0.0, True),
    ]
    with pytest.raises(ResetNeeded):
        aec.step("more")


def test_a_reply_that_is_none_concerns_its_own_agent_alone(aec: AECWorkflowEnv) -> None:
    aec.reset(seed=0)
    with pytest.raises(InvalidAction, match="'Ann'"):
        aec.step(5)  # type: ignore[arg-type]
    assert aec.agent_selection == "Ann"
    aec.step("first")
    assert aec.agent_selection == "Bob"
    with pytest.raises(InvalidAction, match="'Bob'"):
        aec.step(b"bytes")  # type: ignore[arg-type]
    aec.step("second")
    # What Ann said is not lost, so the debate goes on with Bob's last word.
    assert aec.agent_selection == "Bob"
    assert "Ann said first." in aec.observe("Bob")["text"]


class DebateThatAnnLeaves:
    """Ann is rewarded and leaves after the first words, and the judge rewards her at the end."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        ann, bob = await asyncio.gather(say(models, "Ann", "Go."), say(models, "Bob", "Go."))
        models.reward("Ann", 0.25)
        models.leave("Ann")
        return WorkflowResult(output=[ann, bob, await say(models, "Bob", "More?")])


def test_an_agent_that_leaves_waits_for_the_rest_of_its_reward() -> None:
    env = ParallelWorkflowEnv(WorkflowEnv(debate(workflow=DebateThatAnnLeaves())))
    env.reset()
    observations, rewards, terminations, _, _ = env.step({"Ann": "aa", "Bob": "b", "Cat": "c"})
    assert (observations["Ann"], rewards["Ann"], terminations["Ann"]) == ({"text": ""}, 0.25, False)
    assert env.agents == ["Ann", "Bob", "Cat"]
    _, rewards, terminations, _, _ = env.step({"Bob": "b"})
    assert (rewards["Ann"], terminations["Ann"]) == (1.0, True)
    env.close()


def test_rewards_between_an_agents_turns_are_added_up() -> None:
    env = AECWorkflowEnv(WorkflowEnv(debate(workflow=DebateThatAnnLeaves())))
    env.reset()
    seen = []
    for agent in env.agent_iter():
        _, reward, terminated, truncated, _ = env.last()
        seen.append((agent, reward, terminated))
        env.step(None if terminated or truncated else "xxx"[len(seen) :])
    assert seen == [
        ("Ann", 0.0, False),
        ("Bob", 0.0, False),
        ("Bob", 0.0, False),
        ("Ann", 1.25, True),
        ("Bob", 0.0, True),
        ("Cat", 0.0, True),
    ]
    env.close()


def test_agents_must_be_named_beforehand() -> None:
    with pytest.raises(SettingError, match=r"give agents=\[…\] or set Environment.agents"):
        ParallelWorkflowEnv(WorkflowEnv(debate(agents=())))
    with pytest.raises(SettingError, match="name each agent that may act, once"):
        AECWorkflowEnv(WorkflowEnv(debate()), agents=["Ann", "Ann"])
    env = AECWorkflowEnv(WorkflowEnv(debate()), agents=["Ann"])
    with pytest.raises(WorkflowError, match=r"got \['Bob'\]"):
        env.reset()
    env.close()


def test_a_living_agent_cannot_act_as_if_it_had_left(aec: AECWorkflowEnv) -> None:
    aec.reset()
    with pytest.raises(InvalidAction, match="got None for 'Ann'"):
        aec.step(None)


def test_an_agent_has_one_pair_of_spaces_of_its_own(parallel: ParallelWorkflowEnv) -> None:
    assert parallel.action_space("Ann") is parallel.action_space("Ann")
    assert parallel.observation_space("Ann") is parallel.observation_space("Ann")
    parallel.action_space("Ann").seed(1)
    alone = parallel.action_space("Ann").sample()
    parallel.action_space("Ann").seed(1)
    parallel.action_space("Bob").seed(2)
    assert parallel.action_space("Ann").sample() == alone

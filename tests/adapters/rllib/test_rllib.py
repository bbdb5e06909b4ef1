"""Environments for RLlib: by its own check, dict by dict, and trained on by its PPO."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

# First: it decides where Ray listens.
from benchmarks.loopback_ray import loopback_ray

# isort: split

import numpy as np
import pytest
import torch
from agentscope.message import UserMsg
from gymnasium import spaces
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.utils.pre_checks.env import check_multiagent_environments

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_envs.werewolves import WerewolvesConfig
from astuner_envs.werewolves.view import StructuredWerewolves
from astuner_gym.adapters.rllib import MASK, RLlibMaskedEnv, RLlibWorkflowEnv
from astuner_gym.env import WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from benchmarks.masked_actor_critic import MaskedActorCritic
from benchmarks.rllib_werewolves import POLICY, WolvesEnv, policy_wins, ppo, uniform_wins


class Debate:
    """Ann and Bob speak at once, Ann is paid and leaves, then Bob speaks alone; Cat never does."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        async def say(agent: str, text: str) -> str:
            response = await models[agent]([UserMsg("user", text)])
            return str(response.content[0].text)  # type: ignore[union-attr]

        await asyncio.gather(say("Ann", "Go."), say("Bob", "Go."))
        models.reward("Ann", 0.25)
        models.leave("Ann")
        return WorkflowResult(output="", truncated=await say("Bob", "More?") == "too long")


@pytest.fixture
def debate() -> Iterator[RLlibWorkflowEnv]:
    environment = Environment(
        name="debate",
        workflow=Debate(),
        judge=FunctionJudge(lambda task, result: 1.0),
        train_tasks=RecordTasks("t", [{}, {}]),
        agents=("Ann", "Bob", "Cat"),
    )
    env = RLlibWorkflowEnv(WorkflowEnv(environment))
    yield env
    env.close()


def test_rllibs_own_check_is_content(debate: RLlibWorkflowEnv) -> None:
    check_multiagent_environments(debate)
    check_multiagent_environments(WolvesEnv())
    for environment in (Gsm8kConfig().build(), WerewolvesConfig(players=9, trainable=None).build()):
        env = RLlibWorkflowEnv(WorkflowEnv(environment))
        check_multiagent_environments(env)
        env.close()


def test_dicts_hold_those_who_must_act_and_those_rewarded(debate: RLlibWorkflowEnv) -> None:
    observations, infos = debate.reset(seed=0, options={"task": 1, "other": 2})
    assert observations == {"Ann": "user: Go.", "Bob": "user: Go."}
    assert infos["Ann"]["task"] == "t-1"
    observations, rewards, terminations, truncations, infos = debate.step({"Ann": "a", "Bob": "b"})
    assert observations == {"Bob": "user: More?"}
    assert rewards == {"Ann": 0.25, "Bob": 0.0}
    assert terminations == truncations == {"Bob": False, "__all__": False}
    assert infos.keys() == {"Bob"}
    observations, rewards, terminations, truncations, _ = debate.step({"Bob": "b"})
    assert observations == {"Ann": "", "Bob": "", "Cat": ""}
    assert rewards == {"Ann": 1.0, "Bob": 1.0, "Cat": 0.0}
    assert terminations == {"Ann": True, "Bob": True, "Cat": True, "__all__": True}
    assert truncations == {"Ann": False, "Bob": False, "Cat": False, "__all__": False}


def test_an_episode_cut_short_is_truncated_as_a_whole(debate: RLlibWorkflowEnv) -> None:
    debate.reset()
    debate.step({"Ann": "a", "Bob": "b"})
    _, _, terminations, truncations, _ = debate.step({"Bob": "too long"})
    assert (terminations["Bob"], terminations["__all__"]) == (False, False)
    assert (truncations["Bob"], truncations["__all__"]) == (False, True)


def test_rllib_takes_an_episode_cut_short_for_truncated(debate: RLlibWorkflowEnv) -> None:
    episode = MultiAgentEpisode()
    observations, infos = debate.reset()
    episode.add_env_reset(observations=observations, infos=infos)
    for actions in ({"Ann": "a", "Bob": "b"}, {"Bob": "too long"}):
        observations, rewards, terminations, truncations, infos = debate.step(actions)
        episode.add_env_step(
            observations, actions, rewards, infos, terminateds=terminations, truncateds=truncations
        )
    assert (episode.is_terminated, episode.is_truncated) == (False, True)
    bob = episode.agent_episodes["Bob"]
    assert (bob.is_terminated, bob.is_truncated) == (False, True)
    # Ann left: nothing that came after her last turn is worth anything to her.
    assert episode.agent_episodes["Ann"].is_terminated


class TwoTurns:
    """Two players who choose at once, then one of them; a limit cuts the game short."""

    possible_agents = ["left", "right"]  # noqa: RUF012

    def __init__(self) -> None:
        self.agents: list[str] = []
        self.closed = False
        self._space = spaces.Dict(
            {
                "temperature": spaces.Box(-40, 20, (2,), np.int8),
                "action_mask": spaces.Box(0, 1, (3,), np.int8),
            }
        )

    def observation_space(self, agent: str) -> spaces.Dict:
        return self._space

    def action_space(self, agent: str) -> spaces.Discrete[np.int64]:
        return spaces.Discrete(3)

    def reset(self, *, seed: int | None = None) -> tuple[Any, Any]:
        self.agents = ["left", "right"]
        return self._see(), {agent: {} for agent in self.agents}

    def step(self, actions: Mapping[str, int]) -> tuple[Any, Any, Any, Any, Any]:
        assert actions.keys() == {*self.agents}
        over = self.agents == ["right"]
        seen = self.possible_agents if over else ["right"]
        self.agents = [] if over else ["right"]
        return (
            {agent: self._see()[agent] for agent in seen},
            dict.fromkeys(seen, 0.0),
            dict.fromkeys(seen, False),
            dict.fromkeys(seen, over),
            {agent: {} for agent in seen},
        )

    def close(self) -> None:
        self.closed = True

    def _see(self) -> dict[str, dict[str, NDArray[np.int8]]]:
        mask = np.array([1, 0, 1], np.int8)
        return {
            agent: {"temperature": np.array([-20, 10], np.int8), "action_mask": mask}
            for agent in self.possible_agents
        }


def test_arrays_become_one_vector_within_one_beside_their_mask() -> None:
    env = RLlibMaskedEnv(TwoTurns())
    observations, _ = env.reset()
    assert observations["left"]["observations"].tolist() == [-0.5, 0.25]
    assert observations["left"][MASK].tolist() == [1.0, 0.0, 1.0]
    assert observations["left"] in env.get_observation_space("left")


@pytest.mark.parametrize(
    "space", [spaces.Box(-np.inf, 1, (2,), np.float32), spaces.Discrete(3), spaces.Text(9)]
)
def test_arrays_without_bounds_are_refused(space: spaces.Space[Any]) -> None:
    class Unbounded(TwoTurns):
        def observation_space(self, agent: str) -> spaces.Dict:
            mask = spaces.Box(0, 1, (3,), np.int8)
            return spaces.Dict({"temperature": space, "action_mask": mask})

    with pytest.raises(SettingError, match=r"needs finite bounds .* got temperature="):
        RLlibMaskedEnv(Unbounded())


def test_bounds_of_the_smallest_integer_and_of_zero_scale_too() -> None:
    class Wide(TwoTurns):
        def observation_space(self, agent: str) -> spaces.Dict:
            low, high = np.array([-128, 0], np.int8), np.array([10, 0], np.int8)
            mask = spaces.Box(0, 1, (3,), np.int8)
            wide = spaces.Box(low, high, dtype=np.int8)
            return spaces.Dict({"temperature": wide, "action_mask": mask})

        def _see(self) -> dict[str, dict[str, NDArray[np.int8]]]:
            mask = np.array([1, 0, 1], np.int8)
            cold = np.array([-128, 0], np.int8)
            return {agent: {"temperature": cold, "action_mask": mask} for agent in self.agents}

    observations, _ = RLlibMaskedEnv(Wide()).reset()
    assert observations["left"]["observations"].tolist() == [-1.0, 0.0]


def test_a_masked_episode_cut_short_is_truncated_and_closed() -> None:
    inside = TwoTurns()
    env = RLlibMaskedEnv(inside)
    env.reset()
    _, _, terminations, truncations, _ = env.step({"left": 0, "right": 2})
    assert terminations == truncations == {"right": False, "__all__": False}
    _, _, terminations, truncations, _ = env.step({"right": 2})
    assert (terminations["__all__"], truncations["__all__"]) == (False, True)
    env.close()
    assert inside.closed


def test_random_games_of_werewolves_stay_in_the_spaces() -> None:
    env = RLlibMaskedEnv(StructuredWerewolves())
    random = np.random.default_rng(0)
    for seed in range(5):
        observations, _ = env.reset(seed=seed)
        over = False
        while not over:
            assert all(seen in env.get_observation_space(a) for a, seen in observations.items())
            actions = {
                agent: int(random.choice(np.flatnonzero(seen[MASK])))
                for agent, seen in observations.items()
            }
            observations, _, terminations, truncations, _ = env.step(actions)
            over = terminations["__all__"] or truncations["__all__"]


def policy() -> MaskedActorCritic:
    env = WolvesEnv()
    return MaskedActorCritic(
        observation_space=env.get_observation_space("Ada"),
        action_space=env.get_action_space("Ada"),
        model_config={"hidden": 8},
    )


def test_the_policy_gives_no_weight_to_what_the_mask_forbids() -> None:
    module = policy()
    features = module.observation_space["observations"].shape[0]
    actions = int(module.action_space.n)
    mask = torch.zeros(2, actions)
    mask[0, 3] = mask[0, 4] = 1
    batch = {Columns.OBS: {"observations": torch.zeros(2, features), MASK: mask}}
    logits = module.forward_exploration(batch)[Columns.ACTION_DIST_INPUTS]
    distribution = torch.distributions.Categorical(logits=logits)
    assert distribution.probs[0].nonzero().flatten().tolist() == [3, 4]
    # At an episode's end nothing is allowed, and nothing may become NaN.
    assert torch.isfinite(distribution.entropy()).all()
    assert module.compute_values(batch).shape == (2,)


def test_an_untrained_policy_is_about_as_good_as_uniform_play() -> None:
    seeds = range(2**31, 2**31 + 300)
    ours, uniform = policy_wins(policy(), seeds, greedy=False), uniform_wins(seeds)
    # Two shares of 300 games differ by a standard deviation of 4 points if they are the same.
    assert abs(sum(ours) - sum(uniform)) / 300 < 0.16


def test_ppo_trains_on_werewolves_and_changes_its_policy() -> None:
    with loopback_ray():
        algorithm = ppo(seed=0, batch=600).build_algo()
        before = {name: value.copy() for name, value in weights(algorithm).items()}
        result = algorithm.train()
        after = weights(algorithm)
        algorithm.stop()
    assert result["env_runners"]["num_episodes"] > 20
    assert -2 <= result["env_runners"]["episode_return_mean"] <= 2
    learnt = result["learners"][POLICY]
    assert np.isfinite(learnt["total_loss"])
    assert all(np.abs(after[name] - value).max() > 0 for name, value in before.items())


def weights(algorithm: Any) -> dict[str, NDArray[np.float32]]:
    return dict(algorithm.get_module(POLICY).get_state())

"""Conformance tests that an environment inherits, in three lines::

class TestMine(EnvironmentConformance):
    def make_environment(self) -> Environment:
        return MyConfig().build()
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from astuner_gym.chat.messages import ChatCall, ChatReply, Responder
from astuner_gym.env import Action, Observation, Step, WorkflowEnv
from astuner_gym.environment import Environment

_LONGEST_DELAY_S = 0.02


@dataclass(frozen=True, slots=True)
class _Played:
    """What a caller saw of an episode, as far as it was played."""

    observations: tuple[Mapping[str, Observation], ...]
    rewards: Mapping[str, float]
    ended: bool


class EnvironmentConformance:
    """Tests for pytest of what every environment promises; subclass it and name the environment."""

    max_steps = 100
    """How far episodes are played; one that is longer is abandoned there."""

    def make_environment(self) -> Environment:
        """Return the environment under test; called for each test anew."""
        raise NotImplementedError("make_environment must return the environment under test")

    def reply(self, agent: str, observation: Observation, *, random: Random) -> Action:
        """Return an agent's reply; override it with one that gets far in the environment.

        It must depend on its arguments alone. By default it is a random short text, which an
        environment must take as it must take whatever a policy writes.
        """
        letters = random.choices("0123456789 abcdefghijklmnopqrstuvwxyz{}<>\"'\n", k=20)
        return "".join(letters)

    def test_a_seed_gives_one_episode(self) -> None:
        """Two environments with one seed show the same observations and rewards."""
        assert self._play(seed=7) == self._play(seed=7), "one seed gave two different episodes"

    def test_a_reset_forgets_the_episode_before(self) -> None:
        """Members of a group, which share a task, start alike in a used and a fresh environment."""
        with WorkflowEnv(self.make_environment()) as env:
            first = env.reset(seed=3, options={"task": 0})
            self._play_on(env, first[0], seed=3)
            again = env.reset(seed=3, options={"task": 0})
        assert first == again, "an episode changed how the next one on its task starts"

    def test_delays_change_no_observation(self) -> None:
        """However late a call is made, the agents who must act are the same."""
        with _DelayingEnv(self.make_environment()) as env:
            delayed = self._play_on(env, env.reset(seed=7)[0], seed=7)
        assert delayed == self._play(seed=7), "a delay before calls changed the episode"

    def test_no_clock_enters_a_prompt(self) -> None:
        """AgentScope tells its agents the time unless told not to, and no run could be repeated."""
        for seen in self._play(seed=4).observations:
            for agent, observation in seen.items():
                assert not any("<current-time>" in message.text for message in observation), (
                    f"the prompt of {agent!r} holds the time; give its Agent "
                    "injection_config=InjectionConfig(inject_runtime_state=False)"
                )

    def test_close_leaves_no_thread(self) -> None:
        """An episode that is closed before its end leaves nothing behind."""
        before = set(threading.enumerate())
        env = WorkflowEnv(self.make_environment())
        env.reset(seed=1)
        env.close()
        left = set(threading.enumerate()) - before
        assert not left, f"threads outlive the environment: {left}"

    def test_spaces_contain_observations(self) -> None:
        """Each observation is in the agent's space, which is the same object each time."""
        with WorkflowEnv(self.make_environment()) as env:
            observations, _ = env.reset(seed=2)
            assert observations, "a workflow must call a model to be stepped"
            for agent, observation in observations.items():
                assert observation in env.observation_space(agent), f"{agent}: {observation}"
                assert env.observation_space(agent) is env.observation_space(agent)
                assert env.action_space(agent) is env.action_space(agent)

    def test_each_agent_gets_a_finite_reward(self) -> None:
        """An episode that ends rewards every agent that acted in it."""
        played = self._play(seed=5)
        if played.ended:
            actors = {agent for seen in played.observations for agent in seen}
            assert played.rewards.keys() == actors, "an agent that acted has no reward"
            assert all(map(math.isfinite, played.rewards.values())), str(played.rewards)

    def _play(self, *, seed: int) -> _Played:
        with WorkflowEnv(self.make_environment()) as env:
            return self._play_on(env, env.reset(seed=seed)[0], seed=seed)

    def _play_on(
        self, env: WorkflowEnv, observations: dict[str, Observation], *, seed: int
    ) -> _Played:
        seen = [observations]
        step: Step | None = None
        while seen[-1] and len(seen) <= self.max_steps:
            step = env.step(
                {
                    agent: self.reply(
                        agent, observation, random=Random(f"{seed}/{agent}/{len(seen)}")
                    )
                    for agent, observation in seen[-1].items()
                }
            )
            seen.append(step[0])
        rewards = {} if step is None else step[1]
        return _Played(observations=tuple(seen), rewards=rewards, ended=not seen[-1])


class _DelayingEnv(WorkflowEnv):
    """Makes each call late, by a time drawn from (agent, call)."""

    def responder(self, turns: Responder) -> Responder:
        return _Delaying(turns)


class _Delaying:
    def __init__(self, turns: Responder) -> None:
        self._turns = turns

    async def respond(self, call: ChatCall) -> ChatReply:
        await asyncio.sleep(Random(f"{call.agent}/{call.index}").uniform(0, _LONGEST_DELAY_S))
        return await self._turns.respond(call)

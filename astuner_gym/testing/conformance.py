"""Conformance tests that an environment inherits, in three lines::

class TestMine(EnvironmentConformance):
    def make_environment(self) -> Environment:
        return MyConfig().build()
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TypeAlias
from unittest import SkipTest

from astuner_gym.chat.messages import ChatCall, ChatReply, Responder
from astuner_gym.chat.parsers import HermesParser
from astuner_gym.env import Action, Info, Observation, WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.episode import run_episode
from astuner_gym.errors import NotSetUpError
from astuner_gym.testing.other_process import call_in_other_process

_GROUP_SIZE = 3
_LONG = "all work and no play " * 10_000
_SCRIPTS = (
    "我投 Ada 一票。",
    "أنا قروي، صدّقوني",
    "שלום\u200f, мир, κόσμε, नमस्ते, ภาษาไทย",
    "👩\u200d👩\u200d👧 🐺🇨🇭 e\u0301 \U00010348",
    "\ufeff\u2028line\u2029para\x00\x1b[31m\x7f\u202e",
    "{0} %s ${x} {{y}} \\n </tool_call><|im_end|>[INST]",
    '<tool_call>\n{"name": "\u4f60", "arguments": {"": [null, 1e999]}}\n</tool_call>',
)

Reply: TypeAlias = Callable[[str, Observation, int], Action]
"""Answers for an agent what it observes at a step, counted from 1."""


@dataclass(slots=True)
class Played:
    """What a caller saw of an episode, as far as it was played."""

    observations: list[dict[str, Observation]] = field(default_factory=list)
    """By step, the reset first."""
    rewards: dict[str, float] = field(default_factory=dict)
    """By agent, summed over the steps."""
    actions: dict[tuple[str, int], Action] = field(default_factory=dict)
    """By agent and call."""
    last: frozenset[str] = frozenset()
    """Agents whom the last step ended."""
    ended: bool = False

    @property
    def actors(self) -> set[str]:
        """Agents who acted, or must now."""
        return {agent for seen in self.observations for agent in seen}


class EnvironmentConformance:
    """Tests for pytest of what every environment promises; subclass it and name the environment.

    A test that has nothing to show, since no episode ended within ``max_steps``, is skipped.
    """

    max_steps = 100
    """How far episodes are played; one that is longer is abandoned there."""
    longest_delay_s = 0.02
    """Up to how much calls are made late to see that it changes nothing."""

    def make_environment(self) -> Environment:
        """Return the environment under test; called for each test anew.

        Where :class:`astuner_gym.errors.NotSetUpError` is raised, the test is skipped.
        """
        raise NotImplementedError("make_environment must return the environment under test")

    def release(self, environment: Environment) -> None:
        """End what :meth:`make_environment` returned, with its services.

        Override both to start services that take long once for all tests.
        """
        environment.close()

    @contextmanager
    def environment(self) -> Iterator[Environment]:
        """Make the environment under test, and release it after the block.

        Raises:
            SkipTest: It is not set up here.
        """
        try:
            environment = self.make_environment()
        except NotSetUpError as error:
            raise SkipTest(str(error)) from error
        try:
            yield environment
        finally:
            self.release(environment)

    def reply(self, agent: str, observation: Observation, *, random: Random) -> Action:
        """Return an agent's reply; override it with one that gets far in the environment.

        It must depend on its arguments alone. By default it is a word that the agent has just read
        or a random short text, which an environment must take as it must take whatever a policy
        writes.
        """
        words = observation[-1].text.split() if observation else []
        if words and random.random() < 0.5:
            return random.choice(words)
        letters = random.choices("0123456789 abcdefghijklmnopqrstuvwxyz{}<>\"'\n", k=20)
        return "".join(letters)

    def test_a_seed_gives_one_episode(self) -> None:
        """Two environments with one seed show the same observations and rewards."""
        assert self.play(seed=7) == self.play(seed=7), "one seed gave two different episodes"

    def test_a_seed_gives_one_episode_in_any_process(self) -> None:
        """Another process, whose strings hash otherwise, shows the same observations and rewards.

        What differs is most often the order of a set: sort it.
        """
        play = partial(self.play, seed=7)
        here = play()
        assert call_in_other_process(play, module=type(self).__module__) == here, (
            "another process gave another episode; sort what comes from sets and other hashes"
        )

    def test_a_group_starts_alike(self) -> None:
        """Members of a group, which share a task, see the same though all are under way at once."""
        with ExitStack() as stack:
            envs = [stack.enter_context(self._env()) for _ in range(_GROUP_SIZE)]
            first, *others = [
                env.reset(seed=seed, options={"task": 0}) for seed, env in enumerate(envs)
            ]
        for other in others:
            assert other == first, "two members of a group started differently on one task"

    def test_a_reset_forgets_the_episode_before(self) -> None:
        """Members of a group start alike in a used and a fresh environment."""
        with self._env() as env:
            first = env.reset(seed=3, options={"task": 0})
            self._play_on(env, first, self._reply(3))
            again = env.reset(seed=3, options={"task": 0})
        assert first == again, "an episode changed how the next one on its task starts"

    def test_delays_change_no_observation(self) -> None:
        """However late a call is made, the agents who must act are the same."""
        with self.environment() as environment, _DelayingEnv(environment) as env:
            env.longest_s = self.longest_delay_s
            delayed = self._play_on(env, env.reset(seed=7), self._reply(7))
        assert delayed == self.play(seed=7), "a delay before calls changed the episode"

    def test_no_clock_enters_a_prompt(self) -> None:
        """AgentScope tells its agents the time unless told not to, and no run could be repeated."""
        for seen in self.play(seed=4).observations:
            for agent, observation in seen.items():
                assert not any("<current-time>" in message.text for message in observation), (
                    f"the prompt of {agent!r} holds the time; give its Agent "
                    "injection_config=InjectionConfig(inject_runtime_state=False)"
                )

    def test_close_leaves_no_thread(self) -> None:
        """An episode that is closed, before its end or after it, leaves nothing behind."""
        with self.environment() as environment:
            if environment.services:  # their threads end with the environment, not with an episode
                with WorkflowEnv(environment) as env:
                    env.reset(seed=1)
            threads = set(threading.enumerate())
            processes = set(multiprocessing.active_children())
            for steps in (0, 1, self.max_steps):
                env = WorkflowEnv(environment)
                self._play_on(env, env.reset(seed=1), self._reply(1), max_steps=steps)
                env.close()
                env.close()
            left = set(threading.enumerate()) - threads
            assert not left, f"threads outlive the environment: {left}"
            children = set(multiprocessing.active_children()) - processes
            assert not children, f"processes outlive the environment: {children}"

    def test_spaces_contain_observations(self) -> None:
        """Each observation is in the agent's space, which is the same object each time."""
        with self._env() as env:
            played = self._play_on(env, env.reset(seed=2), self._reply(2))
            assert played.observations[0], "a workflow must call a model to be stepped"
            for seen in played.observations:
                for agent, observation in seen.items():
                    assert observation in env.observation_space(agent), f"{agent}: {observation}"
                    assert env.observation_space(agent) is env.observation_space(agent)
                    assert env.action_space(agent) is env.action_space(agent)

    def test_each_agent_gets_a_finite_reward(self) -> None:
        """An episode that ends, ends for every agent that acted in it, with a finite reward."""
        played = self._ended(self.play(seed=5))
        lacking = played.actors - played.rewards.keys()
        assert not lacking, f"an agent that acted has no reward: {sorted(lacking)}"
        assert all(map(math.isfinite, played.rewards.values())), str(played.rewards)
        going_on = played.actors - played.last
        assert not going_on, f"the episode ended and not for {sorted(going_on)}"

    def test_rewards_are_those_of_the_judge(self) -> None:
        """What an agent gets in the steps adds up to its reward in the workflow run as it is."""
        with self.environment() as environment:
            with WorkflowEnv(environment) as env:
                played = self._play_on(env, env.reset(options={"task": 0}), self._reply(6))
            self._ended(played)
            outcome = asyncio.run(
                run_episode(
                    environment.workflow,
                    environment.judge,
                    environment.train_tasks[0],
                    _Repeating(played.actions),
                )
            )
        for agent, reward in played.rewards.items():
            judged = outcome.score.reward(agent)
            assert math.isclose(reward, judged, abs_tol=1e-9), (
                f"the steps gave {agent!r} {reward} in all, and the judge gives it {judged}"
            )

    def test_agents_are_those_named(self) -> None:
        """If the environment names its agents beforehand, no others act."""
        with self.environment() as environment:
            named = environment.agents
        if not named:
            raise SkipTest("Environment.agents is empty: the agents are not known beforehand")
        unnamed = {agent for seed in range(3) for agent in self.play(seed=seed).actors} - {*named}
        assert not unnamed, f"agents act that Environment.agents does not name: {sorted(unnamed)}"

    def test_text_of_any_script_is_a_reply(self) -> None:
        """No text breaks an episode, whatever its alphabet, direction or control characters."""
        self._try(lambda agent, observation, step: _SCRIPTS[step % len(_SCRIPTS)])

    def test_an_empty_reply_is_a_reply(self) -> None:
        """Who says nothing, time and again, breaks no episode."""
        self._try(lambda agent, observation, step: "")

    def test_a_long_reply_is_a_reply(self) -> None:
        """A reply that no context has room for breaks no episode."""
        usual = self._reply(8)
        self._try(
            lambda agent, observation, step: _LONG if step == 1 else usual(agent, observation, step)
        )

    def play(self, *, seed: int) -> Played:
        """Play an episode by :meth:`reply`, as far as ``max_steps``."""
        with self._env() as env:
            return self._play_on(env, env.reset(seed=seed), self._reply(seed))

    @contextmanager
    def _env(self) -> Iterator[WorkflowEnv]:
        with self.environment() as environment, WorkflowEnv(environment) as env:
            yield env

    def _reply(self, seed: int) -> Reply:
        return lambda agent, observation, step: self.reply(
            agent, observation, random=Random(f"{seed}/{agent}/{step}")
        )

    def _try(self, reply: Reply) -> None:
        with self._env() as env:
            self._play_on(env, env.reset(seed=8), reply)

    def _ended(self, played: Played) -> Played:
        if not played.ended:
            raise SkipTest(f"no episode ended within max_steps={self.max_steps}; raise it")
        return played

    def _play_on(
        self,
        env: WorkflowEnv,
        start: tuple[dict[str, Observation], dict[str, Info]],
        reply: Reply,
        *,
        max_steps: int | None = None,
    ) -> Played:
        observations, infos = start
        played = Played([observations])
        limit = self.max_steps if max_steps is None else max_steps
        while observations and len(played.observations) <= limit:
            actions = {
                agent: reply(agent, observation, len(played.observations))
                for agent, observation in observations.items()
            }
            for agent, action in actions.items():
                played.actions[agent, infos[agent]["call"].index] = action
            observations, rewards, terminations, truncations, infos = env.step(actions)
            played.observations.append(observations)
            for agent, reward in rewards.items():
                played.rewards[agent] = played.rewards.get(agent, 0.0) + reward
            played.last = frozenset(
                agent for agent in terminations if terminations[agent] or truncations[agent]
            )
        played.ended = not observations
        return played


class _DelayingEnv(WorkflowEnv):
    """Makes each call late, by a time drawn from (agent, call)."""

    longest_s = 0.0

    def responder(self, turns: Responder) -> Responder:
        return _Delaying(turns, longest_s=self.longest_s)


class _Delaying:
    def __init__(self, turns: Responder, *, longest_s: float) -> None:
        self._turns = turns
        self._longest_s = longest_s

    async def respond(self, call: ChatCall) -> ChatReply:
        await asyncio.sleep(Random(f"{call.agent}/{call.index}").uniform(0, self._longest_s))
        return await self._turns.respond(call)


class _Repeating:
    """Answers each call as it was answered before."""

    def __init__(self, actions: Mapping[tuple[str, int], Action]) -> None:
        self._actions = actions
        self._parser = HermesParser()

    async def respond(self, call: ChatCall) -> ChatReply:
        action = self._actions[call.agent, call.index]
        return self._parser.parse(action) if isinstance(action, str) else action

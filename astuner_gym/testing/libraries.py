"""The checks that libraries bring with them, each of an environment behind its adapter.

A further library is a function here and a line in ``LIBRARY_CHECKS``.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from random import Random

from gymnasium.utils.env_checker import check_env

from astuner_gym.adapters.gymnasium import GymnasiumEnv
from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.chat.parsers import HermesParser
from astuner_gym.env import WorkflowEnv
from astuner_gym.task import TaskSlice
from astuner_gym.testing.conformance import EnvironmentConformance

_CYCLES = 50
"""Steps that PettingZoo's tests take for each agent."""


@dataclass(frozen=True, slots=True)
class LibraryCheck:
    """A check of one library."""

    name: str
    run: Callable[[EnvironmentConformance], None]
    """Raises what is wrong with the suite's environment."""
    module: str | None = None
    """Top module of a library that may be absent."""

    @property
    def installed(self) -> bool:
        """Whether the library is there."""
        return self.module is None or importlib.util.find_spec(self.module) is not None


class _Scripted:
    """Answers for opponents as the suite answers."""

    def __init__(self, suite: EnvironmentConformance) -> None:
        self._suite = suite
        self._parser = HermesParser()

    async def respond(self, call: ChatCall) -> ChatReply:
        random = Random(f"{call.agent}/{call.index}")
        action = self._suite.reply(call.agent, call.messages, random=random)
        return self._parser.parse(action) if isinstance(action, str) else action


def gymnasium_check_env(suite: EnvironmentConformance) -> None:
    """Check the view of one agent of the first task, the others being its opponents."""
    with suite.environment() as environment:
        tasks = TaskSlice(environment.train_tasks, start=0, stop=1)
        with WorkflowEnv(environment, tasks=tasks) as env:
            env.reset()
            agent = env.agents[0]
        view = GymnasiumEnv(environment, agent=agent, opponent=_Scripted(suite), tasks=tasks)
        with closing(view), warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(view, skip_render_check=True)


# The libraries are imported where they are used: none is needed for the others.


def pettingzoo_api_test(suite: EnvironmentConformance) -> None:
    """Check the environment of turns."""
    from pettingzoo.test import api_test

    from astuner_gym.adapters.pettingzoo import AECWorkflowEnv

    with suite.environment() as environment, WorkflowEnv(environment) as env:
        api_test(AECWorkflowEnv(env), num_cycles=_CYCLES)


def pettingzoo_seed_test(suite: EnvironmentConformance) -> None:
    """Check that a seed gives one episode of turns."""
    from pettingzoo.test import seed_test

    from astuner_gym.adapters.pettingzoo import AECWorkflowEnv

    with suite.environment() as environment:
        seed_test(lambda: AECWorkflowEnv(WorkflowEnv(environment)), num_cycles=_CYCLES)


def pettingzoo_parallel_api_test(suite: EnvironmentConformance) -> None:
    """Check the environment of parallel play."""
    from pettingzoo.test import parallel_api_test

    from astuner_gym.adapters.pettingzoo import ParallelWorkflowEnv

    with suite.environment() as environment, WorkflowEnv(environment) as env:
        parallel_api_test(ParallelWorkflowEnv(env), num_cycles=_CYCLES)


def pettingzoo_parallel_seed_test(suite: EnvironmentConformance) -> None:
    """Check that a seed gives one episode of parallel play."""
    from pettingzoo.test import parallel_seed_test

    from astuner_gym.adapters.pettingzoo import ParallelWorkflowEnv

    with suite.environment() as environment:
        parallel_seed_test(
            lambda: ParallelWorkflowEnv(WorkflowEnv(environment)), num_cycles=_CYCLES
        )


def rllib_check_multiagent_environments(suite: EnvironmentConformance) -> None:
    """Check the multi-agent environment of RLlib."""
    from ray.rllib.utils.pre_checks.env import check_multiagent_environments

    from astuner_gym.adapters.rllib import RLlibWorkflowEnv

    with suite.environment() as environment, WorkflowEnv(environment) as env:
        check_multiagent_environments(RLlibWorkflowEnv(env))


LIBRARY_CHECKS = (
    LibraryCheck("gymnasium check_env", gymnasium_check_env),
    LibraryCheck("pettingzoo api_test", pettingzoo_api_test, "pettingzoo"),
    LibraryCheck("pettingzoo seed_test", pettingzoo_seed_test, "pettingzoo"),
    LibraryCheck("pettingzoo parallel_api_test", pettingzoo_parallel_api_test, "pettingzoo"),
    LibraryCheck("pettingzoo parallel_seed_test", pettingzoo_parallel_seed_test, "pettingzoo"),
    LibraryCheck("rllib check_multiagent_environments", rllib_check_multiagent_environments, "ray"),
)
"""All of them, in the order in which the table shows them."""

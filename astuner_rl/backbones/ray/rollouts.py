"""Rollout workers as actors: workflows and judges run there and ask the sampler actors.

Ray starts a worker that died anew and has it play again what it had not played to the end: the
same episodes, by the same keys.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import ray
from ray.actor import ActorHandle

from astuner_gym.environment import Environment
from astuner_gym.task import Task
from astuner_rl.backbones.ray.answers import Watch, answer, answers, watch
from astuner_rl.backbones.ray.making import MadeOnce
from astuner_rl.backbones.ray.samplers import SamplerClient
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.runner import Runner
from astuner_rl.samplers.protocol import CompletionSource
from astuner_rl.types import Episode, EpisodeKey, SamplingParams

WORKER = "a rollout worker"
"""What messages call the actors here."""

MakeRunner: TypeAlias = Callable[[CompletionSource], Awaitable[Runner]]


class RolloutActor:
    """One runner of episodes, in a process of its own; made and asked through ``RolloutActors``."""

    def __init__(self, make: MakeRunner, samplers: SamplerClient) -> None:
        self._runner = MadeOnce(partial(make, samplers))

    async def ready(self, service_logs: Path | None = None) -> int:
        """Return the process; raises what keeps the runner from being made.

        Args:
            service_logs: Where the services of its environment keep their logs.
        """
        runner = await self._runner.get()
        if service_logs is not None:
            runner.environment.log_to(service_logs)
        return os.getpid()

    async def run(self, task: Task, key: EpisodeKey, params: SamplingParams) -> Episode:
        """Play one episode."""
        runner = await self._runner.get()
        return await runner.run(task, key, params=params)


class RolloutActors:
    """The runner of a run, made of actors.

    Args:
        actors: With one environment.
        environment: Where tasks come from.
        config: How episodes are played.
        answer_s: Seconds after which an actor that does not answer is lost.
        service_logs: Folder in which each actor has one for the logs of its environment's services,
            on its own node; None for temporary ones. They end with the actor.

    Raises:
        AstunerError: An actor's runner cannot be made.
        LostProcessError: An actor died, or does not answer.
    """

    def __init__(
        self,
        actors: Sequence[ActorHandle[RolloutActor]],
        *,
        environment: Environment,
        config: RolloutConfig,
        answer_s: float,
        service_logs: Path | None = None,
    ) -> None:
        self._actors = actors
        self._environment = environment
        self._config = config
        self._answer_s = answer_s
        self._playing = [0] * len(actors)
        """By actor, episodes that it plays."""
        folders = [service_logs and service_logs / f"worker-{i}" for i in range(len(actors))]
        ready = [each.ready.remote(folder) for each, folder in zip(actors, folders, strict=True)]
        answers(ready, of=WORKER, within_s=answer_s)

    @property
    def environment(self) -> Environment:
        """Where tasks come from."""
        return self._environment

    @property
    def config(self) -> RolloutConfig:
        """How episodes are played."""
        return self._config

    async def run(self, task: Task, key: EpisodeKey, *, params: SamplingParams) -> Episode:
        """Play one episode where least are played; cancelling the await ends it.

        Raises:
            UnusableInputError: The task's data or a setting is at fault.
            LostProcessError: The actor has died for good.
        """
        chosen = self._playing.index(min(self._playing))
        self._playing[chosen] += 1
        try:
            return await answer(self._actors[chosen].run.remote(task, key, params), of=WORKER)
        finally:
            self._playing[chosen] -= 1

    @property
    def watches(self) -> list[Watch]:
        """Look whether the actors are there, until one is lost."""
        return [
            partial(watch, partial(_look_after, actor), of=WORKER, within_s=self._answer_s)
            for actor in self._actors
        ]

    async def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)


async def _look_after(actor: ActorHandle[RolloutActor]) -> int:
    return await answer(actor.ready.remote(), of=WORKER)

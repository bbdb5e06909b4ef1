"""Rollout workers as actors: workflows and judges run there and ask the sampler actors.

Ray starts a worker that died anew and has it play again what it had not played to the end: the
same episodes, by the same keys.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import ray
from ray import ObjectRef
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


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What a rollout worker has in its process."""

    runner: Runner
    exact: bool = True
    """Whether judge and opponent answer a second run of the same seed as they did the first."""
    samples: bool = False
    """Whether one of them is a model that is sampled from here."""


MakeWorker: TypeAlias = Callable[[CompletionSource], Awaitable[WorkerParts]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """What a rollout worker says of itself."""

    process: int
    """Its number, which is another one when the actor was started anew."""
    exact: bool
    """See ``WorkerParts``."""
    bits_of: str | None
    """Name of the machine, if what is played depends on its bits: they are the same on one."""


class RolloutActor:
    """One runner of episodes, in a process of its own; made and asked through ``RolloutActors``.

    Whatever it is asked, it is told where the services of its environment keep their logs: one that
    was started anew must know before its first episode.
    """

    def __init__(self, make: MakeWorker, samplers: SamplerClient) -> None:
        self._made = MadeOnce(partial(make, samplers))
        self._logs_told = False

    async def state(self, service_logs: Path | None) -> WorkerState:
        """Return how the worker is; raises what keeps the runner from being made."""
        parts = await self._parts(service_logs)
        return WorkerState(
            process=os.getpid(),
            exact=parts.exact,
            bits_of=socket.gethostname() if parts.samples else None,
        )

    async def run(
        self, task: Task, key: EpisodeKey, params: SamplingParams, service_logs: Path | None
    ) -> Episode:
        """Play one episode."""
        runner = (await self._parts(service_logs)).runner
        return await runner.run(task, key, params=params)

    async def _parts(self, service_logs: Path | None) -> WorkerParts:
        parts = await self._made.get()
        if service_logs is not None and not self._logs_told:
            self._logs_told = True
            parts.runner.environment.log_to(service_logs)
        return parts


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
        self._logs = [service_logs and service_logs / f"worker-{i}" for i in range(len(actors))]
        """By actor."""
        asked: list[ObjectRef[WorkerState]] = [
            actor.state.remote(logs) for actor, logs in zip(actors, self._logs, strict=True)
        ]
        states: list[WorkerState] = answers(asked, of=WORKER, within_s=answer_s)
        machines = {state.bits_of for state in states} - {None}
        self._exact = all(state.exact for state in states) and machines <= {socket.gethostname()}

    @property
    def environment(self) -> Environment:
        """Where tasks come from."""
        return self._environment

    @property
    def config(self) -> RolloutConfig:
        """How episodes are played."""
        return self._config

    @property
    def exact(self) -> bool:
        """Whether what judge and opponent answer the workers repeats, bit for bit."""
        return self._exact

    async def run(self, task: Task, key: EpisodeKey, *, params: SamplingParams) -> Episode:
        """Play one episode where least are played; cancelling the await ends it.

        Raises:
            UnusableInputError: The task's data or a setting is at fault.
            LostProcessError: The actor has died for good.
        """
        chosen = self._playing.index(min(self._playing))
        self._playing[chosen] += 1
        try:
            playing = self._actors[chosen].run.remote(task, key, params, self._logs[chosen])
            return await answer(playing, of=WORKER)
        finally:
            self._playing[chosen] -= 1

    @property
    def watches(self) -> list[Watch]:
        """Look whether the actors are there, until one is lost."""
        return [
            partial(watch, partial(_look_after, actor, logs), of=WORKER, within_s=self._answer_s)
            for actor, logs in zip(self._actors, self._logs, strict=True)
        ]

    async def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)


async def _look_after(actor: ActorHandle[RolloutActor], service_logs: Path | None) -> int:
    state: WorkerState = await answer(actor.state.remote(service_logs), of=WORKER)
    return state.process

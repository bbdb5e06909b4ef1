"""Actors that break, die or are elsewhere, without a run around them."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import cloudpickle

from astuner_gym.environment import Environment
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.backbones.ray.answers import answers
from astuner_rl.backbones.ray.cluster import ActorPlan, Reservation, connected, reserved
from astuner_rl.backbones.ray.config import RayBackboneConfig
from astuner_rl.backbones.ray.rollouts import RolloutActor, RolloutActors, WorkerParts
from astuner_rl.backbones.ray.samplers import SamplerActor, SamplerActors, SamplerClient
from astuner_rl.backbones.ray.weights import StoredWeights
from astuner_rl.errors import BrokenSamplerError, LostProcessError
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.samplers.protocol import CompletionSource
from astuner_rl.samplers.scripted import ScriptedAnswer, ScriptedSampler
from astuner_rl.types import (
    DrawKey,
    Episode,
    EpisodeKey,
    EpisodeStatus,
    SamplingParams,
)

# Actors cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ANSWER_S = 120.0
KEY = EpisodeKey("train", 0, 0, 0)
PARAMS = SamplingParams()


@contextmanager
def started(nodes: Any, *, restarts: bool) -> Iterator[Reservation]:
    """Have room for two actors."""
    config = RayBackboneConfig(address=nodes.address)
    plan = ActorPlan(count=2, cpus=0.1, restarts=restarts, most_calls=100)
    with connected(config), reserved({"actors": plan}, config) as reservation:
        yield reservation


# Samplers.


class BreaksOverWeights(ScriptedSampler):
    """Breaks over new weights where its process is the first to be given them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda prompt_ids, key: ScriptedAnswer([self.policy_version]))
        self._folder = folder

    async def load_weights(
        self, weights: Mapping[str, torch.Tensor], *, version: int, in_flight: bool = False
    ) -> None:
        try:
            (self._folder / f"version-{version}").mkdir()
        except FileExistsError:
            await super().load_weights(weights, version=version)
        else:
            raise BrokenSamplerError("the engine has died")


def test_a_sampler_that_breaks_over_new_weights_is_started_anew(nodes: Any, tmp_path: Path) -> None:
    async def make() -> BreaksOverWeights:
        return BreaksOverWeights(tmp_path)

    async def load_and_ask(samplers: SamplerActors) -> list[int]:
        await samplers.load_weights({"w": torch.ones(1)}, version=1)
        # The tasks of two episodes, one for each actor.
        keys = [DrawKey(0, EpisodeKey("train", 0, task, 0), "ann", 0) for task in range(2)]
        said = [await samplers.generate([7], params=PARAMS, key=key) for key in keys]
        return [completion.token_ids[0] for completion in said]

    with started(nodes, restarts=True) as reservation:
        actors = reservation.start("actors", SamplerActor, make)
        samplers = SamplerActors(
            actors, weights={"w": torch.zeros(1)}, version=0, answer_s=ANSWER_S
        )
        assert asyncio.run(load_and_ask(samplers)) == [1, 1]
    assert {path.name for path in tmp_path.iterdir()} == {"version-0", "version-1"}


# What comes from an actor that has died.


class Dying:
    """Dies of what it is asked."""

    def weights(self) -> None:
        os._exit(1)

    def take(self, weights: object) -> None:
        """Take what another one answers."""


def test_weights_of_a_learner_that_has_died_are_a_lost_process(nodes: Any) -> None:
    with started(nodes, restarts=False) as reservation:
        learner, _ = reservation.start("actors", Dying)
        weights = StoredWeights(learner.weights.remote(), of="the learner")  # type: ignore[arg-type]
        with pytest.raises(LostProcessError, match="the learner has died"):
            dict(weights)


def test_who_is_handed_such_weights_says_that_another_one_has_died(nodes: Any) -> None:
    with started(nodes, restarts=False) as reservation:
        learner, sampler = reservation.start("actors", Dying)
        taking: Any = sampler.take.remote(learner.weights.remote())
        with pytest.raises(LostProcessError, match="an answer of a process that has died"):
            answers([taking], of="a sampler")


# Rollout workers.


@dataclass
class NotingServices:
    """Services of which nothing is needed but where their logs are."""

    folders: list[Path] = field(default_factory=list)

    def log_to(self, folder: Path) -> None:
        self.folders.append(folder)

    def close(self) -> None:
        """Nothing runs."""


class Silent:
    """A workflow without calls."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        return WorkflowResult(output=None)


@dataclass(frozen=True)
class DiesOnce:
    """A runner whose process dies of the first episode; later ones say where their logs are."""

    dead: Path
    services: NotingServices = field(default_factory=NotingServices)
    config: RolloutConfig = field(default_factory=RolloutConfig)

    @property
    def environment(self) -> Environment:
        return Environment(
            name="silent",
            workflow=Silent(),
            judge=FunctionJudge(lambda task, result: 0.0),
            train_tasks=RecordTasks("task", [{}]),
            services=(self.services,),
        )

    async def run(self, task: Task, key: EpisodeKey, *, params: SamplingParams) -> Episode:
        if not self.dead.exists():
            self.dead.touch()
            os._exit(1)
        reason = " ".join(map(str, self.services.folders))
        return Episode(
            key=key, task_id=task.id, calls=(), status=EpisodeStatus.TRUNCATED, reason=reason
        )


def workers(
    reservation: Reservation, folder: Path, *, exact: bool = True, samples: bool = False
) -> RolloutActors:
    runner = DiesOnce(folder / "dead")

    async def make(samplers: CompletionSource) -> WorkerParts:
        return WorkerParts(runner=runner, exact=exact, samples=samples)

    return RolloutActors(
        reservation.start("actors", RolloutActor, make, SamplerClient([])),
        environment=runner.environment,
        config=runner.config,
        answer_s=ANSWER_S,
        service_logs=folder,
    )


def test_a_worker_that_was_started_anew_logs_where_the_first_one_did(
    nodes: Any, tmp_path: Path
) -> None:
    async def played(playing: RolloutActors) -> list[str]:
        task = Task(id="t", record={})
        return [(await playing.run(task, KEY, params=PARAMS)).reason for _ in range(2)]

    with started(nodes, restarts=True) as reservation:
        reasons = asyncio.run(played(workers(reservation, tmp_path)))
    assert reasons == [str(tmp_path / "worker-0")] * 2


@pytest.mark.parametrize(
    ("own", "elsewhere", "exact"),
    [
        ({}, False, True),
        ({"samples": True}, False, True),
        ({"samples": True}, True, False),
        ({}, True, True),
        ({"exact": False}, False, False),
    ],
)
def test_workers_are_exact_where_their_own_models_are(
    nodes: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: dict[str, bool],
    elsewhere: bool,
    exact: bool,
) -> None:
    with started(nodes, restarts=True) as reservation:
        if elsewhere:  # this process, seen from the workers
            monkeypatch.setattr(socket, "gethostname", lambda: "another machine")
        assert workers(reservation, tmp_path, **own).exact is exact

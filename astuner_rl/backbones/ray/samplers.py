"""Samplers as actors: any number of them, which are one sampler to whoever asks.

Ray starts an actor that died anew and asks it again what it had not answered. A sampler that was
started anew has no weights that count, so it answers nobody until the run gives it those of the
day. With an exact sampler the same keys then give the same tokens: nobody learns of the death.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from traceback import print_exc
from typing import Any, TypeAlias

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from torch import Tensor

from astuner_rl.backbones.ray.answers import Watch, answer, answers, watch
from astuner_rl.backbones.ray.making import MadeOnce
from astuner_rl.backbones.ray.weights import PackedWeights, stored, unpack
from astuner_rl.errors import BrokenSamplerError
from astuner_rl.samplers.protocol import CompletionSource, Sampler
from astuner_rl.types import Completion, DrawKey, EpisodeKey, SamplingParams

MOST_CALLS = 100_000
"""Calls that an actor has open at once, so many that none waits in line behind others."""
CLOSE_S = 10.0
"""Seconds that a sampler may take to free what it holds, before its process is ended."""
SAMPLER = "a sampler"
"""What messages call the actors here."""

MakeSampler: TypeAlias = Callable[[], Awaitable[Sampler]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerTraits:
    """What a sampler says of itself."""

    exact: bool
    machine: str
    """Name of the machine: bits are the same on one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerState:
    """How a sampler is."""

    process: int
    """Its number, which is another one when the actor was started anew."""
    version: int | None
    """Of the weights that the run has given; None before it gave any."""


class SamplerActor:
    """One sampler, in a process of its own; made and asked through ``SamplerActors``."""

    def __init__(self, make: MakeSampler) -> None:
        self._sampler = MadeOnce(make)
        self._version: int | None = None
        self._loaded = asyncio.Event()
        self._loading = asyncio.Lock()

    async def traits(self) -> SamplerTraits:
        """Return what the sampler is; raises what keeps it from being made."""
        sampler = await self._sampler.get()
        return SamplerTraits(exact=sampler.exact, machine=socket.gethostname())

    async def state(self) -> SamplerState:
        """Return how the sampler is, when it has started."""
        await self._sampler.get()
        return SamplerState(process=os.getpid(), version=self._version)

    async def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams, key: DrawKey
    ) -> Completion:
        """Sample one completion, as soon as there are weights."""
        await self._loaded.wait()
        sampler = await self._sampler.get()
        with _started_anew_if_broken():
            return await sampler.generate(prompt_ids, params=params, key=key)

    async def release(self, episode: EpisodeKey) -> None:
        """Forget whatever is cached for an episode that has ended."""
        (await self._sampler.get()).release(episode)

    async def load_weights(
        self,
        packed: PackedWeights,
        version: int,
        in_flight: bool,
        base: Sequence[ObjectRef[PackedWeights]],
    ) -> None:
        """Take over weights, unless there are newer ones: calls may overtake each other.

        Args:
            packed: Weights, or adapters.
            version: Of them.
            in_flight: Whether requests that run go on with them.
            base: What adapters are added to, for an actor that has no weights yet; else empty.
        """
        sampler = await self._sampler.get()
        async with self._loading:
            if self._version is not None and self._version >= version:
                return
            with _started_anew_if_broken():
                if self._version is None and base:
                    await sampler.load_weights(unpack(await base[0]), version=version)
                await sampler.load_weights(unpack(packed), version=version, in_flight=in_flight)
            self._version = version
            self._loaded.set()

    async def close(self) -> None:
        """Free what the sampler holds, processes of its own among it."""
        await (await self._sampler.get()).close()


@contextmanager
def _started_anew_if_broken() -> Iterator[None]:
    """End the process of a sampler that turns out to be broken.

    An actor that fails is started anew and asked again, which a failed answer is not.
    """
    try:
        yield
    except BrokenSamplerError:
        print_exc()
        os._exit(1)


class SamplerClient(CompletionSource):
    """Asks sampler actors, from any process.

    All episodes of a task are sampled by one actor, which keeps what their prompts share.
    """

    def __init__(self, actors: Sequence[ActorHandle[SamplerActor]]) -> None:
        self._actors = actors

    async def generate(
        self, prompt_ids: Sequence[int], *, params: SamplingParams, key: DrawKey
    ) -> Completion:
        """Sample one completion; cancelling the await ends the request.

        Raises:
            ContextOverflowError: The prompt leaves no room for a token.
            SamplerError: Prompt or parameters are unusable, or the sampler broke.
            LostProcessError: The actor has died for good.
        """
        actor = self._actor(key.episode)
        return await answer(actor.generate.remote(tuple(prompt_ids), params, key), of=SAMPLER)

    def release(self, episode: EpisodeKey) -> None:
        """Let the episode's actor forget it."""
        self._actor(episode).release.remote(episode)

    def _actor(self, episode: EpisodeKey) -> ActorHandle[SamplerActor]:
        return self._actors[episode.task % len(self._actors)]


class SamplerActors(SamplerClient):
    """The sampler of a run, made of actors.

    Args:
        actors: Of one class and one model.
        weights: To begin with: all of them, and adapters if there are any.
        version: Of these weights.
        adapters: Whether adapters alone come later.
        answer_s: Seconds after which an actor that does not answer is lost.

    Raises:
        AstunerError: An actor's sampler cannot be made.
        LostProcessError: An actor died, or does not answer.
    """

    def __init__(
        self,
        actors: Sequence[ActorHandle[SamplerActor]],
        *,
        weights: Mapping[str, Tensor],
        version: int,
        adapters: bool = False,
        answer_s: float,
    ) -> None:
        super().__init__(actors)
        self._answer_s = answer_s
        self._policy_version = version
        self._newest = (stored(weights), version)
        self._base: list[ObjectRef[PackedWeights]] = []
        asked: list[ObjectRef[SamplerTraits]] = [actor.traits.remote() for actor in actors]
        traits: list[SamplerTraits] = answers(asked, of=SAMPLER, within_s=answer_s)
        machines = {each.machine for each in traits} | {socket.gethostname()}
        self._exact = all(each.exact for each in traits) and len(machines) == 1
        answers(self._load(*self._newest), of=SAMPLER, within_s=answer_s)
        if adapters:
            # Kept for actors that are started anew.
            self._base = [self._newest[0]]

    @property
    def policy_version(self) -> int:
        """Version of the weights that the next request is sampled with."""
        return self._policy_version

    @property
    def exact(self) -> bool:
        """Whether every actor's results repeat bit for bit, and all are on one machine."""
        return self._exact

    async def load_weights(
        self, weights: Mapping[str, Tensor], *, version: int, in_flight: bool = False
    ) -> None:
        """Have every actor take over new weights, which it does by itself; then all have them.

        Weights go into the object store once. See
        :class:`astuner_rl.samplers.protocol.Sampler` for the arguments.

        Raises:
            SamplerError: Names or shapes are not the model's.
            LostProcessError: An actor has died for good.
        """
        # First, so that an actor which is started anew from now on is given these.
        self._newest = (stored(weights), version)
        for loading in self._load(*self._newest, in_flight=in_flight):
            await answer(loading, of=SAMPLER)
        self._policy_version = version

    @property
    def watches(self) -> list[Watch]:
        """Give weights to actors that were started anew, until one is lost."""
        return [
            partial(watch, partial(self._look_after, actor), of=SAMPLER, within_s=self._answer_s)
            for actor in self._actors
        ]

    async def close(self) -> None:
        """Free what the actors' samplers hold, and end the actors."""
        closing: list[Coroutine[Any, Any, None]] = [
            answer(actor.close.remote(), of=SAMPLER) for actor in self._actors
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                # Those that are dead have nothing to free.
                await asyncio.gather(*closing, return_exceptions=True)
        for actor in self._actors:
            ray.kill(actor)

    async def _look_after(self, actor: ActorHandle[SamplerActor]) -> int:
        state: SamplerState = await answer(actor.state.remote(), of=SAMPLER)
        if state.version is None:
            weights, version = self._newest
            loading = actor.load_weights.remote(weights, version, False, self._base)
            await answer(loading, of=SAMPLER)
        return state.process

    def _load(
        self, weights: ObjectRef[PackedWeights], version: int, *, in_flight: bool = False
    ) -> list[ObjectRef[Any]]:
        return [
            actor.load_weights.remote(weights, version, in_flight, self._base)
            for actor in self._actors
        ]

"""An engine of vLLM's in a Ray actor: it is replaced when it dies, and nobody learns of it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import ray

from astuner_rl.backbones.ray.cluster import ActorPlan, connected, reserved
from astuner_rl.backbones.ray.config import RayBackboneConfig
from astuner_rl.backbones.ray.samplers import MOST_CALLS, SamplerActor, SamplerActors
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.samplers.vllm import VllmSampler
from astuner_rl.types import Completion, DrawKey, EpisodeKey, SamplingParams
from tests.vllm.test_vllm import (
    STOP,
    TOLERANCE,
    config,
    engine_processes,
    gaps,
    gone_within,
    random_prompt,
    tied,
)

PROMPT = random_prompt(20)


def test_an_engine_that_dies_in_an_actor_is_replaced() -> None:
    model, settings = tied(0), config()

    def core() -> int:
        (pid,) = (
            pid
            for pid in engine_processes(os.getpid())
            if "EngineCore" in Path(f"/proc/{pid}/cmdline").read_text()
        )
        return pid

    async def complete(sampler: Sampler) -> list[Completion]:
        watching = [asyncio.ensure_future(watch()) for watch in samplers.watches]
        await sampler.load_weights(tied(1).state_dict(), version=1)
        running = [
            asyncio.ensure_future(
                sampler.generate(
                    PROMPT,
                    params=SamplingParams(max_tokens=370),
                    key=DrawKey(1, EpisodeKey("train", 0, 0, sample), "alice", 0),
                )
            )
            for sample in range(4)
        ]
        await asyncio.sleep(0.2)
        os.kill(core(), signal.SIGKILL)
        assert not all(completing.done() for completing in running)
        completions = await asyncio.gather(*running)
        for task in watching:
            task.cancel()
        await sampler.close()
        return completions

    backbone = RayBackboneConfig(object_store_mb=100)
    plan = ActorPlan(count=1, cpus=0.1, restarts=True, most_calls=MOST_CALLS)
    with connected(backbone), reserved({"samplers": plan}, backbone) as reservation:
        # By reference: what an actor is started anew from must outlive its first start.
        stored = ray.put(model)

        async def make() -> Sampler:
            return VllmSampler.start(await stored, stop_token_ids=[STOP], config=settings)

        actors = reservation.start("samplers", SamplerActor, make)
        samplers = SamplerActors(actors, weights=model.state_dict(), version=0, answer_s=300)
        first = core()
        completions = asyncio.run(complete(samplers))
        left = engine_processes(os.getpid()) | {first}
    for completion in completions:
        assert set(completion.versions) == {1}
        assert max(gaps(tied(1), PROMPT, completion)) < TOLERANCE
    assert gone_within(left, 30)

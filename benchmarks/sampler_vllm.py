"""Tokens per second of the trainer's rollouts over vLLM beside vLLM's own offline throughput.

A model of 0.5 B parameters with random weights answers an agent of several turns: each turn's
prompt is the last one with its reply and some new tokens behind it. The lengths are forced, as no
stop token exists; no program of an agent runs in between. Compared are

- *rollouts*: ``VllmSampler`` on an event loop, where every episode asks for its next turn when the
  last one has been answered, as those of a run do.
- *offline*: ``LLM.generate`` on the same prompts and lengths, all given at once, in a process of
  its own with the same engine settings, among them the number of sequences that run at the same
  time. Prefix caching is on for both.

They run in turns of whole processes, with one engine at a time. ``throughput_ratio`` is rollouts /
offline, of medians. The tiny model's ratio is printed without a goal: there decoding does not
dominate. ``logprob_gap_float32`` is the largest difference between a log-prob of the sampler's and
that of a forward pass of transformers, before and after an update of the weights.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from astuner_rl.samplers.vllm import VllmSampler, VllmSamplerConfig
from astuner_rl.types import Completion, DrawKey, EpisodeKey, SamplingParams
from benchmarks.report import Bar, report

SHAPES: dict[str, dict[str, int]] = {
    "0.5b": {
        "vocab_size": 32_000,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 30,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
    },
    "tiny": {
        "vocab_size": 2048,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Episodes that are played at the same time."""

    model: str
    """Of ``SHAPES``."""
    episodes: int
    turns: int
    prompt: int
    """Tokens of the first prompt."""
    observation: int
    """New tokens between a reply and the next turn."""
    reply: int
    """Tokens of a reply, on average; they are spread evenly from a half to one and a half."""
    threads: int
    cache_gib: float
    repeats: int

    def lengths(self, episode: int) -> list[int]:
        """Return the tokens of each reply of an episode."""
        rng = random.Random(episode)
        return [rng.randint(self.reply // 2, self.reply * 3 // 2) for _ in range(self.turns)]

    def context(self, episode: int, turn: int) -> list[int]:
        """Return what is new in a turn's prompt."""
        rng = random.Random(f"{episode} {turn}")
        count = self.prompt if turn == 0 else self.observation
        return [rng.randrange(SHAPES[self.model]["vocab_size"]) for _ in range(count)]

    @property
    def tokens(self) -> int:
        """Tokens sampled in all."""
        return sum(sum(self.lengths(episode)) for episode in range(self.episodes))

    @property
    def context_length(self) -> int:
        """Tokens that hold the longest episode."""
        longest = self.prompt + self.turns * (self.reply * 3 // 2 + self.observation)
        return -(-longest // 64) * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """What was measured over the sampler."""

    tokens_per_s: list[float]
    update_s: list[float]
    logprob_gap: float
    prompts: list[list[int]]
    """Of every turn of the first repeat, with its reply's length in ``lengths``."""
    lengths: list[int]


def make_model(name: str, *, seed: int = 0) -> Qwen2ForCausalLM:
    """A Qwen2 with random weights, whose sampled tokens are as good as any for timing."""
    torch.manual_seed(seed)
    config = Qwen2Config(**SHAPES[name], max_position_embeddings=4096, tie_word_embeddings=True)
    return Qwen2ForCausalLM(config).train(False)  # type: ignore[no-untyped-call, no-any-return]


async def play_episode(
    sampler: VllmSampler, load: Load, *, repeat: int, episode: int
) -> list[tuple[list[int], Completion]]:
    """Play one episode and return each turn's prompt and completion."""
    tokens: list[int] = []
    turns = []
    for turn, length in enumerate(load.lengths(episode)):
        tokens = tokens + load.context(episode, turn)
        completion = await sampler.generate(
            tokens,
            params=SamplingParams(max_tokens=length),
            key=DrawKey(repeat, EpisodeKey("train", repeat, episode, 0), "agent", turn),
        )
        turns.append((tokens, completion))
        tokens = tokens + list(completion.token_ids)
    return turns


@torch.inference_mode()
def logprob_gap(model: Qwen2ForCausalLM, prompt: list[int], completion: Completion) -> float:
    """Return the largest difference from the log-probs of a forward pass."""
    row = torch.tensor([[*prompt, *completion.token_ids]])
    logprobs = model(row).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    expected = logprobs.gather(1, row[0, len(prompt) :, None])[:, 0]
    return (expected - torch.tensor(completion.logprobs)).abs().max().item()


async def measure_rollouts(sampler: VllmSampler, model: Qwen2ForCausalLM, load: Load) -> Rollouts:
    """Play all episodes again and again, with new weights in between that are the old ones."""
    rates, updates, gap = [], [], 0.0
    first: list[tuple[list[int], Completion]] = []
    for repeat in range(load.repeats + 1):
        started = time.perf_counter()
        played = await asyncio.gather(
            *(
                play_episode(sampler, load, repeat=repeat, episode=episode)
                for episode in range(load.episodes)
            )
        )
        seconds = time.perf_counter() - started
        if repeat == 0:  # warms up
            first = [turn for turns in played for turn in turns]
        else:
            rates.append(load.tokens / seconds)
        for prompt, completion in (played[0][-1], played[-1][0]):
            gap = max(gap, logprob_gap(model, prompt, completion))
        started = time.perf_counter()
        await sampler.load_weights(model.state_dict(), version=repeat + 1)
        updates.append(time.perf_counter() - started)
    return Rollouts(
        tokens_per_s=rates,
        update_s=updates,
        logprob_gap=gap,
        prompts=[prompt for prompt, _ in first],
        lengths=[len(completion.token_ids) for _, completion in first],
    )


def rollouts(load: Load) -> Rollouts:
    """Measure the trainer's way."""
    model = make_model(load.model)
    torch.set_num_threads(1)
    sampler = VllmSampler.start(
        model,
        stop_token_ids=[],
        config=VllmSamplerConfig(
            context_length=load.context_length,
            max_sessions=load.episodes,
            cache_gib=load.cache_gib,
            threads=load.threads,
        ),
    )

    async def measure() -> Rollouts:
        try:
            return await measure_rollouts(sampler, model, load)
        finally:
            await sampler.close()

    return asyncio.run(measure())


def offline(load: Load, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[float]:
    """Return tokens per second of ``LLM.generate``; see ``offline_process``."""
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(load.model)
        model.save_pretrained(folder)
        del model
        task = Path(folder, "task.json")
        task.write_text(
            json.dumps(
                {
                    "load": dataclasses.asdict(load),
                    "folder": folder,
                    "prompts": list(prompts),
                    "lengths": list(lengths),
                }
            )
        )
        variables = {
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(load.threads),
        }
        subprocess.run(
            [sys.executable, "-m", "benchmarks.sampler_vllm", "--offline", str(task)],
            check=True,
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
        )
        rates: list[float] = json.loads(task.with_suffix(".rates").read_text())
        return rates


def offline_process(task: Path) -> None:
    """Generate all of a task's completions at once, again and again."""
    from vllm import LLM
    from vllm import SamplingParams as VllmParams

    given: dict[str, Any] = json.loads(task.read_text())
    load = Load(**given["load"])
    llm = LLM(
        model=given["folder"],
        skip_tokenizer_init=True,
        dtype="float32",
        max_model_len=load.context_length,
        max_num_seqs=load.episodes,
        kv_cache_memory_bytes=int(load.cache_gib * 2**30),
        gpu_memory_utilization=0.1,
        enforce_eager=True,
        enable_prefix_caching=True,
        seed=0,
    )
    prompts = [{"prompt_token_ids": prompt} for prompt in given["prompts"]]
    params = [
        VllmParams(max_tokens=length, ignore_eos=True, detokenize=False)
        for length in given["lengths"]
    ]
    rates = []
    for repeat in range(load.repeats + 1):
        llm.reset_prefix_cache()
        started = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - started
        assert [len(output.outputs[0].token_ids) for output in outputs] == given["lengths"]
        if repeat > 0:  # the first warms up
            rates.append(load.tokens / seconds)
    task.with_suffix(".rates").write_text(json.dumps(rates))


def compare(load: Load) -> dict[str, Any]:
    """Measure both ways and print them."""
    load_before = os.getloadavg()[0]
    ours = rollouts(load)
    theirs = offline(load, ours.prompts, ours.lengths)
    figures = {
        **dataclasses.asdict(load),
        "load_average": load_before,
        "rollouts_tokens_per_s": statistics.median(ours.tokens_per_s),
        "rollouts_spread": max(ours.tokens_per_s) / min(ours.tokens_per_s),
        "offline_tokens_per_s": statistics.median(theirs),
        "offline_spread": max(theirs) / min(theirs),
        "ratio": statistics.median(ours.tokens_per_s) / statistics.median(theirs),
        "weight_update_s": statistics.median(ours.update_s),
        "logprob_gap_float32": ours.logprob_gap,
    }
    print(
        f"\n{load.model}: {load.episodes} episodes of {load.turns} turns, replies of "
        f"{load.reply // 2} to {load.reply * 3 // 2} tokens, {load.threads} threads"
    )
    print(f"  rollouts        {figures['rollouts_tokens_per_s']:8.1f} tokens/s")
    print(f"  vLLM offline    {figures['offline_tokens_per_s']:8.1f} tokens/s")
    print(f"  ratio           {figures['ratio']:8.2f}")
    print(f"  weight update   {figures['weight_update_s']:8.2f} s")
    print(f"  log-prob gap    {figures['logprob_gap_float32']:8.1e}")
    return figures


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tiny model alone")
    parser.add_argument("--offline", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.offline is not None:
        offline_process(options.offline)
        return
    tiny = Load(
        model="tiny",
        episodes=16 if options.quick else 64,
        turns=3,
        prompt=96,
        observation=32,
        reply=32,
        threads=1,
        cache_gib=0.25,
        repeats=1 if options.quick else 5,
    )
    figures = {"tiny": compare(tiny)}
    measured = figures["tiny"]
    if not options.quick:
        measured = figures["0.5b"] = compare(
            Load(
                model="0.5b",
                episodes=16,
                turns=3,
                prompt=96,
                observation=32,
                reply=32,
                threads=2,
                cache_gib=1.0,
                repeats=3,
            )
        )
    report(
        "sampler_vllm",
        figures=figures,
        bars={
            "throughput_ratio": Bar(measured["ratio"], ">=", 0.9),
            "logprob_gap_float32": Bar(
                max(each["logprob_gap_float32"] for each in figures.values()), "<=", 1e-3
            ),
        },
        keep=not options.quick,
    )


if __name__ == "__main__":
    main()

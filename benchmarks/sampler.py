"""Tokens per second of ``TransformersSampler`` beside ``model.generate``.

``generate`` decodes a batch until its longest completion is done. It runs in its best setting: each
batch size and thread count is tried, and the fastest is what the sampler is measured against. Both
get the same model, prompts and lengths; the lengths are forced, as no stop token exists.

The sampler is measured from outside, through its ``generate`` on an event loop, with its default
settings, in which its results are exact.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from astuner_rl.samplers.transformers import TransformersSampler, TransformersSamplerConfig
from astuner_rl.types import DrawKey, EpisodeKey, SamplingParams
from benchmarks.report import Bar, report

VOCABULARY = 512
PAD = 0


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that are made at once."""

    prompts: list[list[int]]
    lengths: list[int]
    """Tokens to sample, by prompt."""

    @property
    def tokens(self) -> int:
        """Tokens sampled for all of them."""
        return sum(self.lengths)


@dataclass(frozen=True, slots=True)
class Setting:
    """How ``generate`` is run."""

    batch: int
    threads: int


def make_model(*, hidden: int, layers: int) -> Qwen2ForCausalLM:
    """A Qwen2 with random weights, whose sampled tokens are as good as any for timing."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config).train(False)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = PAD
    return model


def make_load(requests: int, *, prompt_length: int, lengths: Sequence[int]) -> Load:
    """Random prompts of one length, so that ``generate`` need not pad them; lengths in turn."""
    prompts = torch.randint(1, VOCABULARY, (requests, prompt_length)).tolist()
    return Load(prompts, list(itertools.islice(itertools.cycle(lengths), requests)))


def run_generate(model: Qwen2ForCausalLM, load: Load, setting: Setting) -> None:
    """Complete a load batch by batch, in the order given."""
    for start in range(0, len(load.prompts), setting.batch):
        batch = slice(start, start + setting.batch)
        longest = max(load.lengths[batch])
        output = model.generate(
            input_ids=torch.tensor(load.prompts[batch]),
            attention_mask=torch.ones_like(torch.tensor(load.prompts[batch])),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            max_new_tokens=longest,
            min_new_tokens=longest,
        )
        assert output.shape[1] == len(load.prompts[start]) + longest


def run_sampler(
    sampler: TransformersSampler, weights: Mapping[str, torch.Tensor], load: Load
) -> None:
    """Complete a load with all requests made at once, and nothing cached from before."""

    async def complete() -> None:
        await sampler.load_weights(weights, version=0)
        completions = await asyncio.gather(
            *(
                sampler.generate(
                    prompt,
                    params=SamplingParams(temperature=1.0, max_tokens=length),
                    key=DrawKey(0, EpisodeKey("train", 0, index, 0), "agent", 0),
                )
                for index, (prompt, length) in enumerate(
                    zip(load.prompts, load.lengths, strict=True)
                )
            )
        )
        assert [len(completion.token_ids) for completion in completions] == load.lengths

    asyncio.run(complete())


def seconds(action: Callable[[], None]) -> float:
    """Wall-clock time of an action."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def best_setting(
    model: Qwen2ForCausalLM, load: Load, settings: Sequence[Setting]
) -> tuple[Setting, dict[str, float]]:
    """The setting in which ``generate`` is fastest, and tokens per second of each by name."""
    rates = {}
    for setting in settings:
        torch.set_num_threads(setting.threads)
        rates[setting] = load.tokens / min(
            seconds(lambda setting=setting: run_generate(model, load, setting)) for _ in range(2)
        )
    named = {f"batch {s.batch}, threads {s.threads}": rate for s, rate in rates.items()}
    return max(rates, key=lambda setting: rates[setting]), named


def decoded_over_wanted(load: Load, setting: Setting) -> float:
    """Tokens that ``generate`` decodes for each that was asked for: what raggedness wastes."""
    decoded = 0
    for start in range(0, len(load.lengths), setting.batch):
        batch = load.lengths[start : start + setting.batch]
        decoded += len(batch) * max(batch)
    return decoded / load.tokens


def compare(
    title: str, model: Qwen2ForCausalLM, load: Load, settings: Sequence[Setting], repeats: int
) -> dict[str, float | str]:
    """Median tokens per second both ways, measured in turns."""
    setting, rates = best_setting(model, load, settings)
    sampler = TransformersSampler(
        model, stop_token_ids=[], pad_token_id=PAD, config=TransformersSamplerConfig()
    )
    weights = model.state_dict()
    run_sampler(sampler, weights, load)
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(load.tokens / seconds(lambda: run_sampler(sampler, weights, load)))
        torch.set_num_threads(setting.threads)
        theirs.append(load.tokens / seconds(lambda: run_generate(model, load, setting)))
    asyncio.run(sampler.close())
    ratio = statistics.median(ours) / statistics.median(theirs)
    waste = decoded_over_wanted(load, setting)
    print(
        f"\n{title}: {len(load.prompts)} requests, prompts of {len(load.prompts[0])} tokens, "
        f"completions of {min(load.lengths)} to {max(load.lengths)}"
    )
    for name, rate in rates.items():
        print(f"  generate, {name:22} {rate:8.0f} tokens/s")
    print(f"  best of generate, median        {statistics.median(theirs):8.0f} tokens/s")
    print(f"  sampler, threads 1, median      {statistics.median(ours):8.0f} tokens/s")
    print(f"  ratio {ratio:.2f}; generate decodes {waste:.2f} tokens for each wanted")
    return {
        "generate_setting": f"batch {setting.batch}, threads {setting.threads}",
        "generate_tokens_per_s": statistics.median(theirs),
        "sampler_tokens_per_s": statistics.median(ours),
        "ratio": ratio,
        "decoded_over_wanted": waste,
        "ratio_over_waste": ratio / waste,
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small version, under a minute")
    quick = parser.parse_args().quick
    requests, repeats = (64, 3) if quick else (128, 5)
    batches = (64,) if quick else (32, 64, 128)
    settings = [Setting(batch, threads) for batch in batches for threads in (1, 2)]
    unit = 8 if quick else 16
    torch.manual_seed(1)
    # Spread evenly over 1:16, in random order; the equal lengths have about the same mean.
    ragged_lengths = [unit * (1 + index) for index in torch.randperm(16).tolist()]
    equal = make_load(requests, prompt_length=64, lengths=[8 * unit])
    ragged = make_load(requests, prompt_length=64, lengths=ragged_lengths)
    models = {"1m": make_model(hidden=128, layers=4)}
    if not quick:
        models["4m"] = make_model(hidden=256, layers=5)
    figures = {
        f"{lengths}_{size}": compare(f"{lengths} lengths, {size}", model, load, settings, repeats)
        for size, model in models.items()
        for lengths, load in (("equal", equal), ("ragged", ragged))
    }
    report(
        "sampler",
        figures=figures,
        bars={
            "equal_lengths_ratio": Bar(figures["equal_1m"]["ratio"], ">=", 0.9),
            "ragged_lengths_ratio": Bar(figures["ragged_1m"]["ratio"], ">", 1.5),
            "ragged_over_predicted": Bar(figures["ragged_1m"]["ratio_over_waste"], ">=", 0.8),
        },
        keep=not quick,
    )


if __name__ == "__main__":
    main()

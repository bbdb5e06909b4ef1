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
import dataclasses
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

    def __str__(self) -> str:
        return f"batch {self.batch}, threads {self.threads}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both ways on one load."""

    generate_rates: dict[str, float]
    """Tokens per second of each setting of ``generate`` in the trial."""
    generate_setting: str
    """The fastest of them, which is measured again in turns with the sampler."""
    generate_tokens_per_s: float
    """Median in that setting."""
    sampler_tokens_per_s: float
    """Median."""
    ratio: float
    """Sampler over ``generate``."""
    decoded_over_wanted: float
    """Tokens that ``generate`` decodes for each that was asked for: what raggedness wastes, and
    hence the ratio that it predicts."""


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
    model = Qwen2ForCausalLM(config)  # type: ignore[no-untyped-call]
    model.train(False)
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
        prompts = torch.tensor(load.prompts[batch])
        # transformers types generate's self as a protocol that its own models do not match.
        output = model.generate(  # type: ignore[misc]
            input_ids=prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            max_new_tokens=longest,
            min_new_tokens=longest,
        )
        assert isinstance(output, torch.Tensor)
        assert output.shape[1] == prompts.shape[1] + longest


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


def generate_rate(model: Qwen2ForCausalLM, load: Load, setting: Setting) -> float:
    """Tokens per second of ``generate`` in one setting."""
    torch.set_num_threads(setting.threads)
    return load.tokens / seconds(lambda: run_generate(model, load, setting))


def decoded_over_wanted(load: Load, setting: Setting) -> float:
    """Tokens that ``generate`` decodes for each that was asked for: what raggedness wastes."""
    decoded = 0
    for start in range(0, len(load.lengths), setting.batch):
        batch = load.lengths[start : start + setting.batch]
        decoded += len(batch) * max(batch)
    return decoded / load.tokens


def compare(
    title: str, model: Qwen2ForCausalLM, load: Load, settings: Sequence[Setting], repeats: int
) -> Comparison:
    """Find the best setting of ``generate``, then measure both ways in turns."""
    rates = {setting: generate_rate(model, load, setting) for setting in settings}
    best = max(rates, key=lambda setting: rates[setting])
    sampler = TransformersSampler(
        model, stop_token_ids=[], pad_token_id=PAD, config=TransformersSamplerConfig()
    )
    weights = model.state_dict()
    run_sampler(sampler, weights, load)
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(load.tokens / seconds(lambda: run_sampler(sampler, weights, load)))
        theirs.append(generate_rate(model, load, best))
    asyncio.run(sampler.close())
    comparison = Comparison(
        generate_rates={str(setting): rate for setting, rate in rates.items()},
        generate_setting=str(best),
        generate_tokens_per_s=statistics.median(theirs),
        sampler_tokens_per_s=statistics.median(ours),
        ratio=statistics.median(ours) / statistics.median(theirs),
        decoded_over_wanted=decoded_over_wanted(load, best),
    )
    print(
        f"\n{title}: {len(load.prompts)} requests, prompts of {len(load.prompts[0])} tokens, "
        f"completions of {min(load.lengths)} to {max(load.lengths)}"
    )
    for setting, rate in rates.items():
        print(f"  generate, {setting!s:24} {rate:8.0f} tokens/s{' (best)' * (setting == best)}")
    print(f"  {'generate, best, median':34} {comparison.generate_tokens_per_s:8.0f} tokens/s")
    print(f"  {'sampler, median':34} {comparison.sampler_tokens_per_s:8.0f} tokens/s")
    print(
        f"  ratio {comparison.ratio:.2f}; generate decodes "
        f"{comparison.decoded_over_wanted:.2f} tokens for each wanted"
    )
    return comparison


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small version, under a minute")
    quick = parser.parse_args().quick
    requests, repeats = 128, 3 if quick else 5
    batches = (128,) if quick else (32, 64, 128)
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
    comparisons = {
        f"{lengths}_{size}": compare(f"{lengths} lengths, {size}", model, load, settings, repeats)
        for size, model in models.items()
        for lengths, load in (("equal", equal), ("ragged", ragged))
    }
    even, uneven = comparisons["equal_1m"], comparisons["ragged_1m"]
    report(
        "sampler",
        figures={name: dataclasses.asdict(comparison) for name, comparison in comparisons.items()},
        bars={
            "equal_lengths_ratio": Bar(even.ratio, ">=", 0.9),
            "ragged_lengths_ratio": Bar(uneven.ratio, ">", 1.5),
            "ragged_over_predicted": Bar(uneven.ratio / uneven.decoded_over_wanted, ">=", 0.8),
        },
        keep=not quick,
    )


if __name__ == "__main__":
    main()

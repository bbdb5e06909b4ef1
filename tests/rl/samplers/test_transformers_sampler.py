"""The embedded sampler: exactness, its Hugging Face model as oracle, and its life cycle."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from astuner_gym.errors import SettingError
from astuner_rl.errors import ContextOverflowError, NonFiniteLogitsError, SamplerError
from astuner_rl.samplers.transformers import TransformersSampler, TransformersSamplerConfig
from astuner_rl.types import Completion, DrawKey, EpisodeKey, FinishReason, SamplingParams

T = TypeVar("T")

VOCABULARY = 61
STOP = 7
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def seeded(build: Any, config: Any, seed: int = 0) -> PreTrainedModel:
    """A model with random weights, larger than usual so that what is attended to matters."""
    torch.manual_seed(seed)
    model: PreTrainedModel = build(config).train(False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    return model


@functools.cache
def qwen2(seed: int = 0) -> PreTrainedModel:
    return seeded(Qwen2ForCausalLM, Qwen2Config(**SHAPE, tie_word_embeddings=True), seed)


FAMILIES = {
    "llama": lambda: seeded(LlamaForCausalLM, LlamaConfig(**SHAPE)),
    "llama without grouped queries": lambda: seeded(
        LlamaForCausalLM, LlamaConfig(**{**SHAPE, "num_key_value_heads": 4})
    ),
    "qwen2": qwen2,
    "qwen2, some layers sliding": lambda: seeded(
        Qwen2ForCausalLM,
        Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=9, max_window_layers=1),
    ),
    "qwen3": lambda: seeded(Qwen3ForCausalLM, Qwen3Config(**SHAPE, head_dim=16)),
    "mistral": lambda: seeded(MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=None)),
    "mistral, sliding": lambda: seeded(
        MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=9)
    ),
}


def episode(sample: int) -> EpisodeKey:
    """Of one of two tasks, which two threads of a sampler share out between them."""
    return EpisodeKey("train", 0, sample % 2, sample)


def key(sample: int, agent: str = "alice", call: int = 0) -> DrawKey:
    return DrawKey(1, episode(sample), agent, call)


def random_prompts(count: int, *, longest: int, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [
        [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, longest))] for _ in range(count)
    ]


@asynccontextmanager
async def opened(
    model: PreTrainedModel | None = None,
    *,
    stop_token_ids: tuple[int, ...] = (STOP,),
    context_length: int = 200,
    max_sessions: int = 16,
    prefill_tokens: int = 64,
    threads: int = 2,
) -> AsyncIterator[TransformersSampler]:
    sampler = TransformersSampler(
        model or qwen2(),
        stop_token_ids=stop_token_ids,
        pad_token_id=0,
        config=TransformersSamplerConfig(
            context_length=context_length,
            max_sessions=max_sessions,
            prefill_tokens=prefill_tokens,
            threads=threads,
        ),
    )
    try:
        yield sampler
    finally:
        await sampler.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    async def within_a_minute() -> T:
        return await asyncio.wait_for(coroutine, 60)

    return asyncio.run(within_a_minute())


# --- what is sampled -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_logprobs_are_those_of_a_plain_forward_pass(family: str) -> None:
    model = FAMILIES[family]()
    prompts = random_prompts(6, longest=90)
    params = [SamplingParams(temperature=t, max_tokens=30) for t in (1.0, 0.7, 1.5)] * 2

    async def complete() -> list[Completion]:
        async with opened(model) as sampler:
            return await asyncio.gather(
                *(
                    sampler.generate(prompt, params=p, key=key(i))
                    for i, (prompt, p) in enumerate(zip(prompts, params, strict=True))
                )
            )

    for prompt, p, completion in zip(prompts, params, run(complete()), strict=True):
        tokens = torch.tensor(completion.token_ids)
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *completion.token_ids]])).logits[0]
        expected = (logits[len(prompt) - 1 : -1].double() / p.temperature).log_softmax(-1)
        torch.testing.assert_close(
            torch.tensor(completion.logprobs, dtype=torch.float64),
            expected.gather(1, tokens[:, None])[:, 0],
            rtol=0,
            atol=1e-4,
        )


def test_temperature_zero_is_the_greedy_decoding_of_transformers() -> None:
    prompt = random_prompts(1, longest=20)[0]

    async def complete() -> Completion:
        async with opened(stop_token_ids=()) as sampler:
            params = SamplingParams(temperature=0.0, max_tokens=20)
            return await sampler.generate(prompt, params=params, key=key(0))

    greedy = qwen2().generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=20, eos_token_id=None
    )
    completion = run(complete())
    assert list(completion.token_ids) == greedy[0, len(prompt) :].tolist()
    assert completion.logprobs == (0.0,) * 20


def test_sampled_tokens_have_the_frequencies_of_the_models_distribution() -> None:
    with torch.no_grad():
        expected = qwen2()(torch.tensor([[3, 4]])).logits[0, -1].double().softmax(-1)

    async def complete() -> list[Completion]:
        async with opened(max_sessions=64) as sampler:
            params = SamplingParams(max_tokens=1)
            return await asyncio.gather(
                *(sampler.generate([3, 4], params=params, key=key(i)) for i in range(3000))
            )

    counts = torch.zeros(VOCABULARY, dtype=torch.float64)
    for completion in run(complete()):
        counts[completion.token_ids[0]] += 1
    common = expected > 0.002
    chi_square = ((counts - 3000 * expected) ** 2 / (3000 * expected))[common].sum()
    assert chi_square < 2 * int(common.sum()) + 20


def test_a_completion_ends_with_the_stop_token_or_by_length() -> None:
    async def complete() -> list[Completion]:
        async with opened() as sampler:
            return await asyncio.gather(
                *(
                    sampler.generate([3], params=SamplingParams(max_tokens=40), key=key(i))
                    for i in range(40)
                )
            )

    completions = run(complete())
    for completion in completions:
        stopped = completion.finish_reason is FinishReason.STOP
        assert (completion.token_ids[-1] == STOP) == stopped
        assert STOP not in completion.token_ids[:-1]
        assert stopped or len(completion.token_ids) == 40
    assert {c.finish_reason for c in completions} == {FinishReason.STOP, FinishReason.LENGTH}


def test_a_full_context_ends_a_completion_by_length() -> None:
    async def complete() -> Completion:
        async with opened(stop_token_ids=(), context_length=12) as sampler:
            return await sampler.generate([1] * 9, params=SamplingParams(max_tokens=50), key=key(0))

    completion = run(complete())
    assert len(completion.token_ids) == 3
    assert completion.finish_reason is FinishReason.LENGTH


# --- exactness -----------------------------------------------------------------------------------


@functools.cache
def completions_alone() -> tuple[Completion, ...]:
    """Each of the prompts below, in a sampler of its own without any reuse."""

    async def complete(index: int) -> Completion:
        async with opened(prefill_tokens=200) as sampler:
            return await sampler.generate(
                PROMPTS[index], params=SamplingParams(max_tokens=20), key=key(index)
            )

    return tuple(run(complete(index)) for index in range(len(PROMPTS)))


COMMON = [token % VOCABULARY for token in range(1, 80)]
PROMPTS = [
    *random_prompts(8, longest=150),
    *([*COMMON, *ending] for ending in random_prompts(6, longest=30, seed=4)),
]


@settings(max_examples=12, deadline=None)
@given(
    order=st.permutations(range(len(PROMPTS))),
    wave=st.integers(1, len(PROMPTS)),
    max_sessions=st.integers(1, 16),
    prefill_tokens=st.integers(1, 150),
    threads=st.integers(1, 3),
    cancelled=st.sets(st.integers(0, len(PROMPTS) - 1), max_size=3),
)
def test_completions_are_bit_identical_whatever_runs_beside_them(
    order: list[int],
    wave: int,
    max_sessions: int,
    prefill_tokens: int,
    threads: int,
    cancelled: set[int],
) -> None:
    """Random order and number at a time, slots that run out, prefill cut anywhere, others gone."""

    async def complete() -> dict[int, Completion]:
        async with opened(
            max_sessions=max_sessions, prefill_tokens=prefill_tokens, threads=threads
        ) as sampler:
            assert sampler.exact
            completions: dict[int, Completion] = {}
            at_once = asyncio.Semaphore(wave)

            async def one(index: int) -> None:
                async with at_once:
                    task = asyncio.ensure_future(
                        sampler.generate(
                            PROMPTS[index], params=SamplingParams(max_tokens=20), key=key(index)
                        )
                    )
                    if index in cancelled:
                        await asyncio.sleep(0.002)
                        task.cancel()
                    else:
                        completions[index] = await task

            await asyncio.gather(*(one(index) for index in order))
            return completions

    for index, completion in run(complete()).items():
        assert completion == completions_alone()[index]


@pytest.mark.parametrize("head_dim", [64, 128])
def test_few_rows_of_a_wide_model_come_out_as_among_many(head_dim: int) -> None:
    shape = {**SHAPE, "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 2}
    model = seeded(Qwen3ForCausalLM, Qwen3Config(**shape, head_dim=head_dim))
    params = SamplingParams(max_tokens=8)

    async def complete(*indices: int) -> list[Completion]:
        async with opened(model, threads=1, prefill_tokens=200) as sampler:
            if not sampler.exact:
                pytest.skip("this processor computes rows otherwise, however they are cut")
            return await asyncio.gather(
                *(sampler.generate(PROMPTS[i], params=params, key=key(i)) for i in indices)
            )

    alone = [completion for i in range(4) for completion in run(complete(i))]
    assert run(complete(*range(len(PROMPTS))))[:4] == alone


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="another kind of processor has no kernels for AVX2",
)
def test_few_rows_come_out_as_among_many_with_the_kernels_for_avx2() -> None:
    test = test_few_rows_of_a_wide_model_come_out_as_among_many
    avx2 = {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", f"{__file__}::{test.__name__}"],
        check=False,
        env=os.environ | avx2,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout
    if "skipped" in process.stdout:
        pytest.skip(process.stdout)


async def converse(sampler: TransformersSampler, sample: int, turns: int) -> list[Completion]:
    """An agent whose every prompt extends its last one and what it answered to it."""
    completions: list[Completion] = []
    prompt = [*COMMON, 1 + sample]
    for turn in range(turns):
        completion = await sampler.generate(
            prompt, params=SamplingParams(max_tokens=8), key=key(sample, call=turn)
        )
        completions.append(completion)
        prompt = [*prompt, *completion.token_ids, 2 + turn, 3 + sample]
    return completions


async def converse_without_reuse(sample: int, turns: int) -> list[Completion]:
    completions: list[Completion] = []
    prompt = [*COMMON, 1 + sample]
    for turn in range(turns):
        async with opened(qwen2()) as sampler:
            completion = await sampler.generate(
                prompt, params=SamplingParams(max_tokens=8), key=key(sample, call=turn)
            )
        completions.append(completion)
        prompt = [*prompt, *completion.token_ids, 2 + turn, 3 + sample]
    return completions


@functools.cache
def conversation_without_reuse(sample: int) -> list[Completion]:
    return run(converse_without_reuse(sample, 4))


@settings(max_examples=8, deadline=None)
@given(max_sessions=st.integers(1, 8), samples=st.permutations(range(5)))
def test_reuse_and_eviction_of_cached_tokens_change_no_bit(
    max_sessions: int, samples: list[int]
) -> None:
    async def complete() -> list[list[Completion]]:
        async with opened(max_sessions=max_sessions) as sampler:
            return await asyncio.gather(*(converse(sampler, sample, 4) for sample in samples))

    for sample, completions in zip(samples, run(complete()), strict=True):
        assert completions == conversation_without_reuse(sample)


def test_a_conversation_is_prefilled_only_where_it_is_new() -> None:
    forwarded: list[int] = []

    async def complete() -> None:
        async with opened() as sampler:
            model = sampler._model
            model.register_forward_pre_hook(
                lambda module, args, kwargs: forwarded.append(kwargs["input_ids"].shape[1]),
                with_kwargs=True,
            )
            await converse(sampler, 0, 3)

    run(complete())
    # Later prompts have three new tokens: the last sampled one and two of the environment.
    assert len(COMMON) + 1 == 80
    assert forwarded == [64] + [16] * (len(forwarded) - 1)


# --- weights -------------------------------------------------------------------------------------


def test_loaded_weights_are_sampled_from_and_nothing_old_is_reused() -> None:
    async def complete(seed: int) -> Completion:
        async with opened(qwen2(seed)) as sampler:
            return (await converse(sampler, 0, 1))[0]

    async def reload() -> Completion:
        async with opened(qwen2(0)) as sampler:
            await converse(sampler, 0, 1)
            await sampler.load_weights(qwen2(1).state_dict(), version=5)
            assert sampler.policy_version == 5
            return (await converse(sampler, 0, 1))[0]

    reloaded, fresh = run(reload()), run(complete(1))
    assert (reloaded.token_ids, reloaded.logprobs) == (fresh.token_ids, fresh.logprobs)
    assert reloaded.policy_version == 5
    assert run(complete(0)).token_ids != fresh.token_ids


def test_the_sampler_does_not_share_the_models_weights() -> None:
    model = seeded(Qwen2ForCausalLM, Qwen2Config(**SHAPE))

    async def complete() -> tuple[list[Completion], list[Completion]]:
        async with opened(model) as sampler:
            before = await converse(sampler, 0, 1)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.zero_()
            return before, await converse(sampler, 0, 1)

    before, after = run(complete())
    assert before == after
    assert model.config._attn_implementation == "sdpa"


def test_requests_that_run_end_with_the_old_weights_and_later_ones_wait_for_the_new() -> None:
    async def complete() -> tuple[Completion, Completion]:
        async with opened(stop_token_ids=()) as sampler:
            params = SamplingParams(max_tokens=100)
            running = asyncio.ensure_future(sampler.generate([1, 2], params=params, key=key(0)))
            await asyncio.sleep(0)
            loading = asyncio.ensure_future(sampler.load_weights(qwen2(1).state_dict(), version=1))
            await asyncio.sleep(0)
            later = asyncio.ensure_future(sampler.generate([1, 2], params=params, key=key(0)))
            await loading
            assert sampler.policy_version == 1
            return await running, await later

    async def alone(seed: int) -> Completion:
        async with opened(qwen2(seed), stop_token_ids=()) as sampler:
            return await sampler.generate([1, 2], params=SamplingParams(max_tokens=100), key=key(0))

    running, later = run(complete())
    assert (running.policy_version, later.policy_version) == (0, 1)
    assert running.version_changes == later.version_changes == ()
    assert running.logprobs == run(alone(0)).logprobs
    assert later.logprobs == run(alone(1)).logprobs


@pytest.mark.parametrize("threads", [1, 2])
def test_in_flight_each_token_is_sampled_by_the_version_that_it_is_stamped_with(
    threads: int,
) -> None:
    prompts = random_prompts(6, longest=80)
    params = SamplingParams(max_tokens=100)

    async def complete() -> list[Completion]:
        async with opened(stop_token_ids=(), threads=threads, max_sessions=8) as sampler:
            running = [
                asyncio.ensure_future(sampler.generate(prompt, params=params, key=key(sample)))
                for sample, prompt in enumerate(prompts)
            ]
            await sampler.generate([1], params=SamplingParams(max_tokens=40), key=key(6))
            await sampler.load_weights(qwen2(1).state_dict(), version=1, in_flight=True)
            await sampler.generate([1], params=SamplingParams(max_tokens=20), key=key(7))
            await sampler.load_weights(qwen2(2).state_dict(), version=2, in_flight=True)
            return list(await asyncio.gather(*running))

    completions = run(complete())
    assert {version for completion in completions for version in completion.versions} == {0, 1, 2}
    for prompt, completion in zip(prompts, completions, strict=True):
        assert len(completion.token_ids) == 100
        sequence = torch.tensor([prompt + list(completion.token_ids)])
        for version in set(completion.versions):
            with torch.inference_mode():
                expected = qwen2(version)(sequence).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            for position, stamped in enumerate(completion.versions):
                if stamped == version:
                    token = completion.token_ids[position]
                    assert completion.logprobs[position] == pytest.approx(
                        float(expected[position, token]), abs=2e-4
                    )


def test_weights_that_took_over_and_sampled_nothing_leave_no_trace() -> None:
    async def complete() -> Completion:
        async with opened(stop_token_ids=()) as sampler:
            running = asyncio.ensure_future(
                sampler.generate([1, 2], params=SamplingParams(max_tokens=90), key=key(0))
            )
            await sampler.generate([1], params=SamplingParams(max_tokens=9), key=key(2))
            for version in (1, 2, 3):
                await sampler.load_weights(
                    qwen2(version % 2).state_dict(), version=version, in_flight=True
                )
            return await running

    completion = run(complete())
    positions = [change.position for change in completion.version_changes]
    assert positions == sorted(set(positions))
    assert completion.versions[-1] == 3


@pytest.mark.parametrize("in_flight", [False, True])
def test_weights_that_do_not_fit_leave_the_old_ones_at_work(in_flight: bool) -> None:
    async def complete() -> Completion:
        async with opened(stop_token_ids=()) as sampler:
            params = SamplingParams(max_tokens=30)
            running = asyncio.ensure_future(sampler.generate([1], params=params, key=key(0)))
            await asyncio.sleep(0)
            with pytest.raises(SamplerError, match="lack"):
                await sampler.load_weights({}, version=1, in_flight=in_flight)
            assert sampler.policy_version == 0
            return await running

    assert set(run(complete()).versions) == {0}


# --- refusals and failures -----------------------------------------------------------------------


def test_adapters_are_added_to_what_came_with_the_first_and_nothing_else() -> None:
    layer = "model.layers.0.self_attn.q_proj"
    weights = qwen2(1).state_dict()
    rows, columns = weights[f"{layer}.weight"].shape

    def adapters(size: float) -> dict[str, torch.Tensor]:
        return {
            f"{layer}.lora_A.weight": torch.full((1, columns), size),
            f"{layer}.lora_B.weight": torch.ones(rows, 1),
        }

    async def load() -> None:
        async with opened() as sampler:
            own = sampler._model.state_dict()
            before = {name: weight.clone() for name, weight in own.items()}
            for alone in (adapters(1.0), {name: w[:1] for name, w in adapters(1.0).items()}):
                with pytest.raises(SamplerError, match="adapters must"):
                    await sampler.load_weights(alone, version=1)
            assert all(torch.equal(own[name], weight) for name, weight in before.items())
            await sampler.load_weights(weights | adapters(1.0), version=1)
            for size in (2.0, 3.0):
                await sampler.load_weights(adapters(size), version=2)
                for name, weight in weights.items():
                    changed = weight + size if name == f"{layer}.weight" else weight
                    assert torch.equal(own[name], changed), name

    run(load())


@pytest.mark.parametrize("length", [12, 13])
def test_a_prompt_without_room_for_a_reply_is_refused(length: int) -> None:
    async def complete() -> None:
        async with opened(context_length=12) as sampler:
            await sampler.generate([1] * length, params=SamplingParams(), key=key(0))

    with pytest.raises(
        ContextOverflowError, match=rf"{length} tokens of 12; raise sampler\.context"
    ):
        run(complete())


@pytest.mark.parametrize(
    ("prompt", "params", "message"),
    [
        ([], SamplingParams(), ">= 1 token"),
        ([VOCABULARY], SamplingParams(), r"0\.\.60, got 61\.\.61"),
        ([1, -1], SamplingParams(), r"got -1\.\.1"),
        ([1], SamplingParams(max_tokens=0), "max_tokens must be >= 1"),
        ([1], SamplingParams(temperature=-0.5), "temperature finite and >= 0"),
        ([1], SamplingParams(temperature=float("nan")), "temperature finite and >= 0"),
    ],
)
def test_an_unusable_request_is_refused_and_the_sampler_goes_on(
    prompt: list[int], params: SamplingParams, message: str
) -> None:
    async def complete() -> Completion:
        async with opened() as sampler:
            with pytest.raises(SamplerError, match=message):
                await sampler.generate(prompt, params=params, key=key(0))
            return await sampler.generate([1], params=SamplingParams(max_tokens=1), key=key(0))

    assert len(run(complete()).token_ids) == 1


def test_weights_that_are_not_finite_fail_every_request_and_all_later_ones() -> None:
    async def complete() -> None:
        async with opened() as sampler:
            broken = {
                name: torch.full_like(tensor, float("nan"))
                for name, tensor in qwen2().state_dict().items()
            }
            await sampler.load_weights(broken, version=1)
            outcomes = await asyncio.gather(
                *(sampler.generate([1, 2], params=SamplingParams(), key=key(i)) for i in range(3)),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [NonFiniteLogitsError] * 3
            assert "logits must be finite" in str(outcomes[0])
            with pytest.raises(NonFiniteLogitsError, match="logits must be finite"):
                await sampler.generate([1], params=SamplingParams(), key=key(9))
            with pytest.raises(NonFiniteLogitsError, match="logits must be finite"):
                await sampler.generate([1], params=SamplingParams(), key=key(8))

    run(complete())


def test_a_cancelled_request_frees_its_slot() -> None:
    async def complete() -> Completion:
        async with opened(stop_token_ids=(), max_sessions=1, threads=1) as sampler:
            params = SamplingParams(max_tokens=190)
            task = asyncio.ensure_future(sampler.generate([1], params=params, key=key(0)))
            waiting = asyncio.ensure_future(sampler.generate([1], params=params, key=key(1)))
            await asyncio.sleep(0.02)
            task.cancel()
            waiting.cancel()
            await asyncio.gather(task, waiting, return_exceptions=True)
            assert task.cancelled()
            completion = await sampler.generate(
                [1], params=SamplingParams(max_tokens=2), key=key(2)
            )
            (engine,) = sampler._engines
            assert not engine._futures
            return completion

    assert len(run(complete()).token_ids) == 2


def test_closing_fails_what_waits_and_ends_the_threads() -> None:
    async def complete() -> None:
        async with opened(stop_token_ids=()) as sampler:
            params = SamplingParams(max_tokens=190)
            task = asyncio.ensure_future(sampler.generate([1], params=params, key=key(0)))
            await asyncio.sleep(0)
            threads = [engine._thread for engine in sampler._engines]
            assert [thread.is_alive() for thread in threads] == [True, True]
            await sampler.close()
            assert [thread.is_alive() for thread in threads] == [False, False]
            with pytest.raises(SamplerError, match="closed"):
                await task
            with pytest.raises(SamplerError, match="closed"):
                await sampler.generate([1], params=params, key=key(0))
            sampler.release(episode(0))
            await sampler.close()

    run(complete())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_length": 513}, "<= the model's 512, got 513"),
        ({"stop_token_ids": (VOCABULARY,)}, r"0\.\.60, got \[61\]"),
    ],
)
def test_settings_that_the_model_cannot_meet_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    async def complete() -> None:
        async with opened(**changes):
            pass

    with pytest.raises(SettingError, match=message):
        run(complete())


@pytest.mark.parametrize("name", ["context_length", "max_sessions", "prefill_tokens", "threads"])
def test_settings_below_their_least_value_are_refused(name: str) -> None:
    with pytest.raises(SettingError, match=rf"sampler\.{name} must be >="):
        TransformersSamplerConfig(**{name: 0})


def test_an_untested_kind_of_model_is_refused_by_name() -> None:
    model = seeded(
        GPT2LMHeadModel, GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=2)
    )

    async def complete() -> None:
        async with opened(model):
            pass

    with pytest.raises(SettingError, match="got gpt2; choose"):
        run(complete())


def test_a_rotary_embedding_that_looks_at_the_whole_batch_is_refused() -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = seeded(LlamaForCausalLM, LlamaConfig(**SHAPE, rope_parameters=rope))

    async def complete() -> None:
        async with opened(model):
            pass

    with pytest.raises(SettingError, match=r"rope_type must be one of .*, got dynamic"):
        run(complete())


def test_another_precision_is_not_exact() -> None:
    async def exact(model: PreTrainedModel) -> bool:
        async with opened(model) as sampler:
            return sampler.exact

    assert run(exact(qwen2()))
    assert not run(exact(seeded(Qwen2ForCausalLM, Qwen2Config(**SHAPE)).double()))


def test_the_samplers_threads_are_its_own() -> None:
    def threads_of_a_new_thread() -> int:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return found[0]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        sampler = TransformersSampler(
            qwen2(),
            stop_token_ids=[],
            pad_token_id=0,
            config=TransformersSamplerConfig(context_length=64, threads=2),
        )
        inside: list[int] = []
        for engine in sampler._engines:
            engine.call(lambda _: inside.append(torch.get_num_threads())).result(10)
        assert (inside, torch.get_num_threads(), threads_of_a_new_thread()) == ([1, 1], 2, 2)
        run(sampler.close())
    finally:
        torch.set_num_threads(before)

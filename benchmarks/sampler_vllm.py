"""Tokens per second of the trainer's rollouts over vLLM beside vLLM's own offline throughput.

Episodes of several turns are played as training plays them: ``collect_groups`` over an
``EpisodeRunner`` over ``sampler=vllm``, with agents of AgentScope on tasks of ``env=gsm8k``. The
model has random weights, so that its text leads nowhere; the turns come from the workflow, which
tells the agent a result of the calculator after each of its replies. Compared are

- *rollouts*: those episodes, more of them at the same time than the engine has sequences, so that
  it has work while agents think (``rollout.concurrency`` above ``sampler.max_sessions``). Timed is
  all of it, from the first task to the last judged episode: agents, templates, tokens, records.
- *offline*: ``LLM.generate`` on the very prompts of those calls, all given at once and first turns
  first, which finds most of them cached, with the very lengths. It computes no log-probs and draws
  without seeds.

Both engines have the same settings, prefix caching on and empty at the start. Each way has a
process of its own, both are up for the whole run, and they are timed in turns, one at work and one
idle. ``throughput_ratio`` is rollouts / offline, of medians, with a model of 0.5 B parameters. The
tiny model's ratio is printed without a goal: there decoding does not dominate.
``logprob_gap_float32`` is the largest difference between a log-prob of the rollouts' and that of a
forward pass of transformers, before and after an update to other weights.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from agentscope.agent import Agent, InjectionConfig
from agentscope.message import UserMsg
from agentscope.tool import FunctionTool, Toolkit
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_envs.gsm8k.calculator import evaluate
from astuner_envs.gsm8k.workflow import AGENT, ALLOW, SYSTEM_PROMPT, calculator
from astuner_gym.chat.messages import ChatMessage, ChatRole, Conversation
from astuner_gym.environment import Environment
from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.assembly import build_renderer, build_sampler
from astuner_rl.learning.pretrained import Pretrained, load_pretrained
from astuner_rl.learning.tiny.tokenizer import train_tokenizer
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.rollout.groups import collect_groups
from astuner_rl.samplers.child_output import ChildOutput
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.samplers.vllm import VllmSamplerConfig
from astuner_rl.tracking.tracker import TokenPolicy
from astuner_rl.types import CallRecord, Episode, EpisodeKey, EpisodeStatus, SamplingParams
from benchmarks.processes import cpu_seconds, family
from benchmarks.report import Bar, report

SHAPES: dict[str, dict[str, Any]] = {
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
SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwxz" for vowel in "aeiou"]
CONTEXT_LENGTH = 1024
"""Tokens that hold the longest episode."""
CHECKED_CALLS = 3
"""Calls of a play whose log-probs are computed once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is played."""

    model: str
    """Of ``SHAPES``."""
    tasks: int
    group_size: int
    """Episodes of each task, which share its first prompt."""
    sequences: int
    """That run in the engine at the same time."""
    concurrency: int
    """Episodes in flight at once."""
    turns: int
    shortest: int
    longest: int
    """Tokens of a reply, the same for all of an episode, spread evenly over episodes."""
    threads: int
    cache_gib: float
    rounds: int
    """Plays that are timed, each with new tasks."""


# --- what is played ------------------------------------------------------------------------------


class TutoredWorkflow:
    """An agent that is asked a problem and is told a calculation after each of its replies."""

    def __init__(self, *, turns: int) -> None:
        self._turns = turns
        self._toolkit = Toolkit(tools=[FunctionTool(calculator, permission=ALLOW)])

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        """Ask so many times; the output is the last reply."""
        agent = Agent(
            name=AGENT,
            system_prompt=SYSTEM_PROMPT,
            model=models[AGENT],
            toolkit=self._toolkit,
            injection_config=InjectionConfig(inject_runtime_state=False),
        )
        reply = await agent.reply(UserMsg(name="user", content=task.text("question")))
        rng = random.Random(task.id)
        for _ in range(self._turns - 1):
            expression = f"{rng.randrange(100)} * {rng.randrange(100)}"
            hint = f"The calculator says {expression} = {evaluate(expression)}. Go on."
            reply = await agent.reply(UserMsg(name="user", content=hint))
        return WorkflowResult(output=reply.get_text_content() or "")


@dataclass(frozen=True, slots=True)
class VariedRunner:
    """A runner whose episodes have replies of several lengths, as those of a trained model have."""

    runner: EpisodeRunner
    load: Load

    @property
    def environment(self) -> Environment:
        """That of the runner."""
        return self.runner.environment

    @property
    def config(self) -> RolloutConfig:
        """That of the runner."""
        return self.runner.config

    async def run(self, task: Task, key: EpisodeKey, *, params: SamplingParams) -> Episode:
        """Play one episode."""
        length = random.Random(str(key)).randint(self.load.shortest, self.load.longest)
        return await self.runner.run(task, key, params=replace(params, max_tokens=length))


def make_runner(load: Load, pretrained: Pretrained, sampler: Sampler) -> VariedRunner:
    """What plays the episodes, put together as for training."""
    environment = replace(Gsm8kConfig().build(), workflow=TutoredWorkflow(turns=load.turns))
    policy = TokenPolicy(renderer=build_renderer(pretrained), sampler=sampler, seed=0)
    config = RolloutConfig(concurrency=load.concurrency, attempts=1)
    return VariedRunner(EpisodeRunner(environment=environment, policy=policy, config=config), load)


async def play(runner: VariedRunner, load: Load, *, step: int) -> list[CallRecord]:
    """Play the episodes of a step and return their calls, first turns first."""
    source = runner.environment.train_tasks
    groups = await collect_groups(
        runner,
        [source[step * load.tasks + position] for position in range(load.tasks)],
        phase="train",
        step=step,
        samples=load.group_size,
        params=runner.config.params,
    )
    episodes = [episode for group in groups for episode in group.episodes]
    for episode in episodes:
        assert episode.status is EpisodeStatus.COMPLETED, episode.reason
        assert len(episode.calls) >= load.turns
    return sorted(
        (record for episode in episodes for record in episode.calls),
        key=lambda record: record.call.index,
    )


def sampled(records: Iterable[CallRecord]) -> int:
    """Tokens sampled in all."""
    return sum(len(record.completion.token_ids) for record in records)


def save_model(load: Load, folder: Path) -> None:
    """Write random weights, and a tokenizer of as many words, which nobody can read."""
    shape = SHAPES[load.model]
    rng = random.Random(0)
    words = ("".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(32_000))
    demonstrations = Gsm8kConfig().build().demonstrations
    assert demonstrations is not None
    tokenizer = train_tokenizer(
        [
            *islice(demonstrations.train, 200),
            Conversation(messages=(ChatMessage(role=ChatRole.USER, text=" ".join(words)),)),
        ],
        vocab_size=shape["vocab_size"],
    )
    assert len(tokenizer) == shape["vocab_size"], "every token that is sampled must have a text"
    torch.manual_seed(0)
    config = Qwen2Config(
        **shape,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)  # type: ignore[no-untyped-call]
    Pretrained(model, tokenizer).save(folder)


# --- the trainer's way ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """What a play came to."""

    seconds: float
    cpu_seconds: float
    """Of the trainer's process, without the engine's."""
    update_s: float
    """Of handing over weights, before the play."""
    logprob_gap: float
    prompts: list[list[int]]
    lengths: list[int]


def rollouts_process(connection: Connection, load: Load, folder: str) -> None:
    """Play a step whenever one is asked for, until None is."""
    pretrained = load_pretrained(folder)
    torch.set_num_threads(1)
    config = VllmSamplerConfig(
        context_length=CONTEXT_LENGTH,
        max_sessions=load.sequences,
        cache_gib=load.cache_gib,
        threads=load.threads,
    )
    sampler = build_sampler(config, pretrained, build_renderer(pretrained), policy_version=0)
    runner = make_runner(load, pretrained, sampler)
    gc.collect()
    gc.freeze()
    with asyncio.Runner() as loop:
        try:
            gap = loop.run(warm_up(runner, pretrained.model, load))
            connection.send("ready")
            while (step := connection.recv()) is not None:
                measured = loop.run(rollouts(runner, sampler, pretrained.model, load, step=step))
                gap = max(gap, measured.logprob_gap)
                connection.send(replace(measured, logprob_gap=gap))
        finally:
            loop.run(sampler.close())


async def warm_up(runner: VariedRunner, model: PreTrainedModel, load: Load) -> float:
    """Play a few episodes and return the gap in their log-probs."""
    few = replace(load, tasks=1, shortest=load.shortest, longest=load.shortest)
    return logprob_gap(model, await play(VariedRunner(runner.runner, few), few, step=0))


async def rollouts(
    runner: VariedRunner, sampler: Sampler, model: PreTrainedModel, load: Load, *, step: int
) -> Rollouts:
    """Hand over other weights, as a learner does between steps, and play."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=1e-3)
    started = time.perf_counter()
    await sampler.load_weights(model.state_dict(), version=step)
    update_s = time.perf_counter() - started
    started, cpu_started = time.perf_counter(), time.process_time()
    records = await play(runner, load, step=step)
    return Rollouts(
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu_started,
        update_s=update_s,
        logprob_gap=logprob_gap(model, records),
        prompts=[list(record.prompt_ids) for record in records],
        lengths=[len(record.completion.token_ids) for record in records],
    )


@torch.inference_mode()
def logprob_gap(model: PreTrainedModel, records: Sequence[CallRecord]) -> float:
    """Return the largest difference from the log-probs of a forward pass, of some calls."""
    gap = 0.0
    for record in records[:: max(1, len(records) // CHECKED_CALLS)]:
        row = torch.tensor([[*record.prompt_ids, *record.completion.token_ids]])
        length = len(record.prompt_ids)
        logprobs = model(row).logits[0, length - 1 : -1].log_softmax(-1)
        expected = logprobs.gather(1, row[0, length:, None])[:, 0]
        gap = max(gap, (expected - torch.tensor(record.completion.logprobs)).abs().max().item())
    return gap


# --- vLLM's own way ------------------------------------------------------------------------------


def offline_process(connection: Connection, load: Load, folder: str) -> None:
    """Time ``LLM.generate`` on whatever prompts and lengths are sent, until None is."""
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(load.threads),
    }
    from vllm import LLM
    from vllm import SamplingParams as VllmParams
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    output = ChildOutput()
    try:
        with output.capture():
            llm = LLM(
                model=folder,
                skip_tokenizer_init=True,
                dtype="float32",
                max_model_len=CONTEXT_LENGTH,
                max_num_seqs=load.sequences,
                kv_cache_memory_bytes=int(load.cache_gib * 2**30),
                gpu_memory_utilization=0.1,
                enforce_eager=True,
                enable_prefix_caching=True,
                # As in ``VllmSampler``: faster than the default, whose processes wait by spinning.
                distributed_executor_backend=UniProcExecutor,
                seed=0,
            )
    except Exception:
        print(output.text(), file=sys.stderr)
        raise

    def seconds(prompts: Sequence[list[int]], lengths: Sequence[int]) -> float:
        llm.reset_prefix_cache()
        given = [{"prompt_token_ids": prompt} for prompt in prompts]
        params = [
            VllmParams(max_tokens=length, ignore_eos=True, detokenize=False) for length in lengths
        ]
        started = time.perf_counter()
        outputs = llm.generate(given, params, use_tqdm=False)
        elapsed = time.perf_counter() - started
        assert [len(output.outputs[0].token_ids) for output in outputs] == list(lengths)
        return elapsed

    seconds([[1] * 100] * load.group_size, [load.shortest] * load.group_size)
    connection.send("ready")
    while (asked := connection.recv()) is not None:
        connection.send(seconds(*asked))


# --- both in turns -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """A process of its own, and the way to it."""

    connection: Connection
    pid: int

    def ready(self) -> None:
        """Wait until it has warmed up."""
        assert self.connection.recv() == "ready"

    def ask(self, question: object) -> tuple[Any, float]:
        """Return its answer, and the CPU time that it took, its engine's included."""
        before = sum(map(cpu_seconds, family(self.pid)))
        self.connection.send(question)
        answer = self.connection.recv()
        return answer, sum(map(cpu_seconds, family(self.pid))) - before


@contextmanager
def started(
    target: Callable[[Connection, Load, str], None], load: Load, folder: str
) -> Iterator[Side]:
    """Start one side, which ends with the context."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, load, folder))
    process.start()
    there.close()  # so that its end is noticed here
    assert process.pid is not None
    try:
        yield Side(here, process.pid)
        here.send(None)
        process.join()
    finally:
        here.close()
        process.terminate()
        process.join()


def compare(load: Load) -> dict[str, Any]:
    """Measure both ways and print them."""
    load_before = os.getloadavg()[0]
    ours: list[Rollouts] = []
    theirs: list[float] = []
    cpu: dict[str, float] = {"rollouts": 0.0, "offline": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        save_model(load, Path(folder))
        with (
            started(rollouts_process, load, folder) as rollouts_side,
            started(offline_process, load, folder) as offline_side,
        ):
            rollouts_side.ready()
            offline_side.ready()
            for step in range(1, load.rounds + 1):
                played, spent = rollouts_side.ask(step)
                ours.append(played)
                cpu["rollouts"] += spent
                seconds, spent = offline_side.ask((played.prompts, played.lengths))
                theirs.append(seconds)
                cpu["offline"] += spent
                print(
                    f"{load.model}, round {step}: {sum(played.lengths)} tokens, rollouts "
                    f"{played.seconds:.1f} s, offline {seconds:.1f} s",
                    flush=True,
                )
    ours_per_s = [sum(each.lengths) / each.seconds for each in ours]
    theirs_per_s = [sum(each.lengths) / seconds for each, seconds in zip(ours, theirs, strict=True)]
    tokens = sum(sum(each.lengths) for each in ours)
    figures = {
        **asdict(load),
        "load_average": [load_before, os.getloadavg()[0]],
        "calls_a_round": len(ours[0].prompts),
        "tokens_a_round": tokens / load.rounds,
        "prompt_tokens_mean": statistics.fmean(
            len(prompt) for each in ours for prompt in each.prompts
        ),
        "rollouts_tokens_per_s": statistics.median(ours_per_s),
        "rollouts_spread": max(ours_per_s) / min(ours_per_s),
        "offline_tokens_per_s": statistics.median(theirs_per_s),
        "offline_spread": max(theirs_per_s) / min(theirs_per_s),
        "ratio": statistics.median(ours_per_s) / statistics.median(theirs_per_s),
        # These depend less on what else the machine does. The first has more in it than is timed:
        # making and handing over other weights, and the forward pass that checks log-probs.
        "rollouts_cpu_ms_per_token": 1000 * cpu["rollouts"] / tokens,
        "offline_cpu_ms_per_token": 1000 * cpu["offline"] / tokens,
        "trainer_cpu_ms_per_token": 1000 * sum(each.cpu_seconds for each in ours) / tokens,
        "weight_update_s": statistics.median(each.update_s for each in ours),
        "logprob_gap_float32": ours[-1].logprob_gap,
    }
    print(
        f"\n{load.model}: {load.tasks * load.group_size} episodes of {load.turns} turns, replies "
        f"of {load.shortest} to {load.longest} tokens, {load.concurrency} episodes at once over "
        f"{load.sequences} sequences, {load.threads} threads"
    )
    print(f"  rollouts        {figures['rollouts_tokens_per_s']:8.1f} tokens/s")
    print(f"  vLLM offline    {figures['offline_tokens_per_s']:8.1f} tokens/s")
    print(f"  ratio           {figures['ratio']:8.2f}")
    print(
        f"  CPU             {figures['rollouts_cpu_ms_per_token']:8.2f} ms/token, of which the "
        f"trainer {figures['trainer_cpu_ms_per_token']:.2f}; "
        f"offline {figures['offline_cpu_ms_per_token']:.2f}"
    )
    print(f"  weight update   {figures['weight_update_s']:8.2f} s")
    print(f"  log-prob gap    {figures['logprob_gap_float32']:8.1e}")
    return figures


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the tiny model alone, no measurement")
    options = parser.parse_args()
    tiny = Load(
        model="tiny",
        tasks=4 if options.quick else 16,
        group_size=4,
        sequences=16 if options.quick else 32,
        concurrency=32 if options.quick else 64,
        turns=3,
        shortest=16,
        longest=48,
        threads=1,
        cache_gib=0.25,
        rounds=1 if options.quick else 5,
    )
    figures = {"tiny": compare(tiny)}
    measured = figures["tiny"]
    if not options.quick:
        measured = figures["0.5b"] = compare(
            replace(
                tiny,
                model="0.5b",
                tasks=8,
                sequences=16,
                concurrency=32,
                shortest=24,
                longest=72,
                threads=2,
                cache_gib=1.0,
                rounds=3,
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

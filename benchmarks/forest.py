"""What the lineage forest saves: tokens, time and memory of an update, against rows.

Every case is a call log as some kind of agents leaves it. Its update, a whole GRPO step with
forward, backward and optimizer, is measured three ways in turns, with the same threads and model:

- *dense*: a row for every call, sorted by length, in the fastest of five micro-batch sizes;
- *linear*: a row for every timeline, calls that extend each other merged, in that size;
- *forest*: every context once, in micro-batches of nine tenths of that size. A pass of the forest
  is filled to the last token, and more of its tokens are sampled ones, which need logits; so much
  smaller, it takes about the memory of a dense one.

Memory is that of an update in a process of its own, beyond what the process had before.

``bound`` is the size of the prefix tree of the calls, counted here from the calls themselves. That
the forest's readings have the contexts that the sampler saw is checked token by token.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_rl.algos.config import GrpoConfig
from astuner_rl.learning.batch import flatten
from astuner_rl.learning.forest_layout import call_rows, forest_passes
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.learning.layout import Layout, padded_rows
from astuner_rl.tracking.timelines import build_timelines
from astuner_rl.types import (
    AgentEpisode,
    CallRecord,
    Completion,
    EpisodeKey,
    FinishReason,
    SamplingParams,
)
from benchmarks.report import Bar, report

VOCABULARY = 512
THREADS = 1
DENSE_SIZES = (1024, 2048, 4096, 8192, 16384)
FOREST_SHARE = 0.9
"""Tokens of the forest's micro-batches, as a share of dense's."""
RATIO_THAT_COUNTS = 4.0
"""Dense tokens over the bound from which on time is held against it."""
LONG_TRACE, NO_SHARING = "long tool-use trace", "no sharing"

LAYOUTS: dict[str, Layout] = {
    "dense": call_rows,
    "linear": padded_rows,
    "forest": forest_passes,
}

Tokens = tuple[int, ...]


class Log:
    """Calls of one agent in one episode, as they come."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.calls: list[CallRecord] = []

    def text(self, length: int) -> Tokens:
        """Random context."""
        return tuple(self._random.randrange(VOCABULARY) for _ in range(length))

    def call(self, prompt: Tokens, *, reply: int, extends: int | None = None) -> Tokens:
        """Record a call and return the conversation after it."""
        sampled = self.text(reply)
        index = len(self.calls)
        self.calls.append(
            CallRecord(
                call=ChatCall(agent="agent", role="agent", index=index, messages=()),
                reply=ChatReply(text=""),
                prompt_ids=prompt,
                completion=Completion(
                    token_ids=sampled,
                    logprobs=(-6.0,) * reply,
                    finish_reason=FinishReason.STOP,
                    policy_version=0,
                ),
                extends=extends,
                params=SamplingParams(max_tokens=reply),
            )
        )
        return prompt + sampled

    def conversation(
        self, prompt: Tokens, *, calls: int, reply: int, answer: int, extends: int | None = None
    ) -> Tokens:
        """Record calls that extend each other, each answered by ``answer`` tokens of context."""
        for _ in range(calls):
            prompt = self.call(prompt, reply=reply, extends=extends) + self.text(answer)
            extends = len(self.calls) - 1
        return prompt


Logs = list[list[CallRecord]]
"""The calls of every agent in every episode, which form one group."""


def append_only(random: Random, *, episodes: int) -> Logs:
    """One agent that always goes on from its last call; every task has its own prompt."""
    logs = [Log(random) for _ in range(episodes)]
    for log in logs:
        log.conversation(log.text(300), calls=6, reply=60, answer=60)
    return [log.calls for log in logs]


def interleaved(random: Random, *, agents: int) -> Logs:
    """Agents that speak in turn: each keeps its own conversation under one system prompt."""
    shared = Log(random).text(200)
    logs = [Log(random) for _ in range(agents)]
    for log in logs:
        log.conversation(shared + log.text(40), calls=6, reply=50, answer=70)
    return [log.calls for log in logs]


def thinking_stripped(random: Random, *, episodes: int) -> Logs:
    """A template that leaves thoughts out of the history: no call extends the one before."""
    logs = [Log(random) for _ in range(episodes)]
    for log in logs:
        history = log.text(300)
        for _ in range(6):
            whole = log.call(history, reply=100)
            history += whole[len(history) + 70 :] + log.text(40)
    return [log.calls for log in logs]


def drift(random: Random, *, episodes: int) -> Logs:
    """A history that comes back with one token changed in the middle of the episode."""
    logs = [Log(random) for _ in range(episodes)]
    for log in logs:
        prompt = log.conversation(log.text(300), calls=3, reply=60, answer=60)
        place = len(prompt) - 150
        changed = (*prompt[:place], (prompt[place] + 1) % VOCABULARY, *prompt[place + 1 :])
        log.conversation(changed, calls=3, reply=60, answer=60)
    return [log.calls for log in logs]


def branches(random: Random, *, width: int) -> Logs:
    """A trunk of calls from whose end several attempts start."""
    log = Log(random)
    trunk = log.conversation(log.text(400), calls=4, reply=60, answer=60)
    end = len(log.calls) - 1
    for _ in range(width):
        log.conversation(trunk, calls=3, reply=60, answer=40, extends=end)
    return [log.calls]


def retries(random: Random, *, episodes: int) -> Logs:
    """Every other call is made twice, and the conversation goes on from the second reply."""
    logs = [Log(random) for _ in range(episodes)]
    for log in logs:
        prompt = log.text(300)
        extends: int | None = None
        for turn in range(6):
            if turn % 2:
                log.call(prompt, reply=60, extends=extends)
            prompt = log.call(prompt, reply=60, extends=extends) + log.text(60)
            extends = len(log.calls) - 1
    return [log.calls for log in logs]


def group(random: Random, *, size: int, prompt: int, reply: int) -> Logs:
    """Episodes of one task that share its prompt and make one call each."""
    shared = Log(random).text(prompt)
    logs = [Log(random) for _ in range(size)]
    for log in logs:
        log.call(shared, reply=reply)
    return [log.calls for log in logs]


def tool_trace(random: Random, *, prompt: int, calls: int) -> Logs:
    """One agent with a long prompt that uses tools many times."""
    log = Log(random)
    log.conversation(log.text(prompt), calls=calls, reply=24, answer=24)
    return [log.calls]


def agent_episodes(logs: Logs) -> list[AgentEpisode]:
    """One group, in which every second episode succeeds."""
    return [
        AgentEpisode(
            episode=EpisodeKey("train", 0, 0, sample),
            agent="agent",
            role="agent",
            reward=float(sample % 2),
            truncated=False,
            timelines=build_timelines(calls, trained=range(len(calls))),
        )
        for sample, calls in enumerate(logs if len(logs) > 1 else [logs[0], _short()])
    ]


def _short() -> list[CallRecord]:
    """A sibling, without which a single episode would have no advantage."""
    log = Log(Random(1))
    log.call(log.text(8), reply=2)
    return log.calls


def prefix_tree(logs: Iterable[Sequence[CallRecord]]) -> int:
    """Number of different contexts that have to be computed for the calls' tokens."""
    children: list[dict[int, int]] = [{}]
    for calls in logs:
        for record in calls:
            node = 0
            for token in (record.prompt_ids + record.completion.token_ids)[:-1]:
                following = children[node].get(token)
                if following is None:
                    following = len(children)
                    children[node][token] = following
                    children.append({})
                node = following
    return len(children) - 1


def unfaithful_and_lost(episodes: Sequence[AgentEpisode], logs: Logs) -> tuple[int, int]:
    """Sampled tokens that are trained in another context than was seen, and those left out."""
    seen = [
        (record.prompt_ids + record.completion.token_ids[:place], token)
        for calls in logs
        for record in calls
        for place, token in enumerate(record.completion.token_ids)
    ]
    batch = flatten(episodes)
    everything = torch.ones(batch.units, dtype=torch.bool)
    contexts: dict[int, Tokens] = {}
    for microbatch in forest_passes(batch.rows_of(everything), microbatch_tokens=10**9):
        assert microbatch.branching is not None
        token_ids = microbatch.input_ids[0].tolist()
        above: list[tuple[int, Tokens]] = []
        by_place: dict[int, Tokens] = {}
        for segment in microbatch.branching:
            while above and segment.start >= above[-1][0]:
                above.pop()
            context = (above[-1][1] if above else ()) + tuple(
                token_ids[segment.start : segment.stop]
            )
            by_place[segment.start] = context
            above.append((segment.end, context))
        starts = sorted(by_place)
        for read, slot in zip(microbatch.reads.tolist(), microbatch.slots.tolist(), strict=True):
            start = max(place for place in starts if place <= read)
            stop = next(s.stop for s in microbatch.branching if s.start == start)
            contexts[slot] = by_place[start][: len(by_place[start]) - (stop - 1 - read)]
    wrong = sum(
        contexts.get(slot) != context or int(batch.token_ids[slot]) != token
        for slot, (context, token) in enumerate(seen)
    )
    return wrong, len(seen) - sum(slot < len(seen) for slot in contexts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to make an update."""

    layout: Layout
    microbatch_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A case, measured."""

    dense_tokens: int
    linear_tokens: int
    bound: int
    forward: int
    recomputed: int
    unfaithful: int
    lost: int
    dense_microbatch_tokens: int
    dense_s: float
    linear_s: float
    forest_s: float
    dense_peak_mb: float
    forest_peak_mb: float

    @property
    def token_ratio(self) -> float:
        """Dense tokens over those of the prefix tree."""
        return self.dense_tokens / self.bound

    @property
    def speedup(self) -> float:
        """Dense time over the forest's."""
        return self.dense_s / self.forest_s


def make_model(*, hidden: int, layers: int, context: int) -> Qwen3ForCausalLM:
    """A Qwen3 of random weights."""
    torch.manual_seed(0)
    return Qwen3ForCausalLM(  # type: ignore[no-untyped-call]
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 32,
            num_key_value_heads=hidden // 64,
            head_dim=32,
            max_position_embeddings=context,
            tie_word_embeddings=True,
        )
    )


def update(model: Qwen3ForCausalLM, episodes: Sequence[AgentEpisode], way: Way) -> dict[str, float]:
    """Make one update of a copy of the model and return its figures and seconds."""
    config = GrpoConfig(lr=1e-5, microbatch_tokens=way.microbatch_tokens)
    learner = GrpoLearner(copy.deepcopy(model), config, layout=way.layout)
    start = time.perf_counter()
    metrics = dict(learner.update(episodes).metrics)
    return metrics | {"seconds": time.perf_counter() - start}


def fresh_update(
    model: Qwen3ForCausalLM, episodes: Sequence[AgentEpisode], way: Way
) -> dict[str, float]:
    """Make one update in a process that made none before; ``peak_mb`` is what it came to need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["astuner_rl.learning.grpo"])
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send_update, args=(sending, model, episodes, way))
    process.start()
    sending.close()
    try:
        figures: dict[str, float] = receiving.recv()
    finally:
        process.join()
    return figures


def _send_update(
    pipe: Connection, model: Qwen3ForCausalLM, episodes: Sequence[AgentEpisode], way: Way
) -> None:
    torch.set_num_threads(THREADS)
    before = _status("VmRSS")
    figures = update(model, episodes, way)
    pipe.send(figures | {"peak_mb": _status("VmHWM") - before})


def _status(name: str) -> float:
    """Return a line of this process's status in MB of 2**20 bytes; NaN where there is none."""
    status = Path("/proc/self/status")
    for line in status.read_text("utf-8").splitlines() if status.exists() else ():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return math.nan


def different_sizes(episodes: Sequence[AgentEpisode]) -> list[int]:
    """The sizes by which dense rows are cut differently; a row too long for all is alone in all."""
    batch = flatten(episodes)
    rows = batch.rows_of(torch.ones(batch.units, dtype=torch.bool))
    sizes: dict[str, int] = {}
    for size in DENSE_SIZES:
        cut = [list(one.input_ids.shape) for one in call_rows(rows, microbatch_tokens=size)]
        sizes.setdefault(repr(cut), size)
    return list(sizes.values())


def fastest_size(model: Qwen3ForCausalLM, episodes: Sequence[AgentEpisode], *, tries: int) -> int:
    """The micro-batch size in which dense rows are updated fastest, by the best of its tries."""
    sizes = different_sizes(episodes)
    if len(sizes) == 1:
        return sizes[0]
    taken: dict[int, float] = dict.fromkeys(sizes, math.inf)
    for _ in range(tries):
        for size in sizes:
            way = Way(layout=call_rows, microbatch_tokens=size)
            taken[size] = min(taken[size], update(model, episodes, way)["seconds"])
    return min(taken, key=lambda size: taken[size])


def measure(name: str, logs: Logs, model: Qwen3ForCausalLM, *, repeats: int) -> Measured:
    """Measure a case, the ways in turns; without ``repeats`` by one update of a fresh process."""
    episodes = agent_episodes(logs)
    best = fastest_size(model, episodes, tries=2 if repeats > 1 else 1)
    sizes = {"dense": best, "linear": best, "forest": int(FOREST_SHARE * best)}
    ways = {
        way: Way(layout=layout, microbatch_tokens=sizes[way]) for way, layout in LAYOUTS.items()
    }
    figures = {way: fresh_update(model, episodes, ways[way]) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, taken in seconds.items():
            taken.append(update(model, episodes, ways[way])["seconds"])
    kept = logs if len(logs) > 1 else [logs[0], _short()]
    unfaithful, lost = unfaithful_and_lost(episodes, kept)
    median = {
        way: statistics.median(taken or [figures[way]["seconds"]]) for way, taken in seconds.items()
    }
    measured = Measured(
        dense_tokens=int(figures["dense"]["tokens/forward"]),
        linear_tokens=int(figures["linear"]["tokens/forward"]),
        bound=prefix_tree(kept),
        forward=int(figures["forest"]["tokens/forward"]),
        recomputed=int(figures["forest"]["tokens/recomputed"]),
        unfaithful=unfaithful,
        lost=lost,
        dense_microbatch_tokens=best,
        dense_s=median["dense"],
        linear_s=median["linear"],
        forest_s=median["forest"],
        dense_peak_mb=figures["dense"]["peak_mb"],
        forest_peak_mb=figures["forest"]["peak_mb"],
    )
    print(
        f"{name:28}{measured.dense_tokens:9}{measured.linear_tokens:9}{measured.bound:8}"
        f"{measured.forward:8}{measured.recomputed:7}{measured.dense_s:9.2f}"
        f"{measured.linear_s:9.2f}{measured.forest_s:9.3f}{measured.token_ratio:8.1f}"
        f"{measured.speedup:8.1f}{measured.dense_peak_mb:9.0f}{measured.forest_peak_mb:8.0f}",
        flush=True,
    )
    return measured


def cases(random: Random, *, quick: bool) -> dict[str, Logs]:
    """The call logs, by name."""
    part = 2 if quick else 8
    return {
        NO_SHARING: [append_only(random, episodes=1)[0][:1] for _ in range(2 * part)],
        "append-only": append_only(random, episodes=part),
        "2 agents": interleaved(random, agents=2),
        "4 agents": interleaved(random, agents=4),
        "9 agents": interleaved(random, agents=9),
        "thinking stripped": thinking_stripped(random, episodes=part),
        "one-token drift": drift(random, episodes=part),
        "trunk with branches": branches(random, width=part),
        "retries": retries(random, episodes=part),
        "group, long prompt": group(random, size=2 * part, prompt=1024, reply=64),
        LONG_TRACE: tool_trace(random, prompt=1024 if quick else 8192, calls=12 if quick else 60),
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small version, under a minute")
    quick = parser.parse_args().quick
    torch.set_num_threads(THREADS)
    model = make_model(hidden=64 if quick else 128, layers=2 if quick else 3, context=16384)
    print(
        f"{'case':28}{'dense':>9}{'linear':>9}{'bound':>8}{'forest':>8}{'again':>7}"
        f"{'dense s':>9}{'linear s':>9}{'forest s':>9}{'ratio':>8}{'speedup':>8}"
        f"{'dense MB':>9}{'MB':>8}   ({os.cpu_count()} cores, {THREADS} thread)"
    )
    measured = {
        name: measure(name, logs, model, repeats=0 if name == LONG_TRACE else 1 if quick else 5)
        for name, logs in cases(Random(0), quick=quick).items()
    }
    shared = [each for each in measured.values() if each.token_ratio >= RATIO_THAT_COUNTS]
    report(
        "forest",
        figures={name: dataclasses.asdict(each) for name, each in measured.items()},
        bars={
            "forward_over_bound_max": Bar(
                max(each.forward / each.bound for each in measured.values()), "<=", 1.0
            ),
            "unfaithful_tokens": Bar(sum(each.unfaithful for each in measured.values()), "<=", 0),
            "lost_tokens": Bar(sum(each.lost for each in measured.values()), "<=", 0),
            "speedup_over_token_ratio_min": Bar(
                min(each.speedup / each.token_ratio for each in shared), ">=", 0.8
            ),
            "speedup_long_trace": Bar(measured[LONG_TRACE].speedup, ">=", 8.0),
            "no_sharing_slowdown": Bar(1 / measured[NO_SHARING].speedup, "<=", 1.05),
            "peak_memory_over_dense": Bar(
                max(each.forest_peak_mb / each.dense_peak_mb for each in measured.values()),
                "<=",
                1.0,
            ),
        },
        keep=not quick,
    )


if __name__ == "__main__":
    main()

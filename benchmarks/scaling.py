"""Learner ranks and samplers, one and two of them, beside a cost model; and what it says of more.

Two processes of one thread each measure, in turns:

- *learner*: a GRPO update of a forest batch by one rank, and by two that share the weights
  (``learning.process_ranks``: FSDP2 over gloo);
- *sampler*: replies of one ``TransformersSampler``, and of two that have half of the requests each.

The cost model (``benchmarks.cost_model``) is given other measurements: updates of one rank and
replies of one sampler of several sizes, what of an update is not divided, collectives of two sizes,
and by how much two processes that have nothing to do with each other slow each other down. From
these it predicts the measured steps of two; ``prediction_error`` is the larger of both relative
errors in seconds.

Then the model is given figures of GPUs in place of those measured, and asked for 8 to 1,024. They
are assumptions, which are printed, and what follows from them is a prediction that nobody has
measured.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import dataclasses
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import torch
from torch import distributed
from transformers import Qwen3ForCausalLM

from astuner_rl.algos.config import GrpoConfig
from astuner_rl.learning.batch import flatten
from astuner_rl.learning.blocks import transformer_blocks
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.learning.layout import Row
from astuner_rl.learning.prefix_tree import prefix_tree_tokens
from astuner_rl.learning.process_ranks import ProcessRanks
from astuner_rl.learning.shares import balanced_shares
from astuner_rl.samplers.transformers import TransformersSampler, TransformersSamplerConfig
from astuner_rl.tracking.timelines import build_timelines
from astuner_rl.types import AgentEpisode, DrawKey, EpisodeKey, SamplingParams
from benchmarks.cost_model import LearnerCost, LearnerTerms, Line, Link, SamplerCost, transfer_s
from benchmarks.forest import VOCABULARY, Log, make_model
from benchmarks.report import Bar, report

GROUP = 8
"""Episodes of a task, which share its prompt."""
PROMPT, CALLS, REPLY, ANSWER = 96, 3, 32, 16
SAMPLED_PROMPT, SAMPLED_REPLY = 32, 64
# So little that the policy stays as it is, whatever it is trained on.
LEARNING = GrpoConfig(lr=1e-12, microbatch_tokens=1024)
COLLECTIVE_BYTES = (2**20, 2**24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured."""

    hidden: int
    layers: int
    tasks: tuple[int, ...]
    """Of a batch of one rank; the last is the batch of two."""
    rows: tuple[int, ...]
    """Requests of one sampler; the last are those of two."""
    repeats: int


FULL = Plan(hidden=256, layers=4, tasks=(4, 8, 16), rows=(32, 64, 128), repeats=5)
QUICK = Plan(hidden=128, layers=2, tasks=(2, 4), rows=(8, 16), repeats=1)


def make_batch(tasks: int) -> list[AgentEpisode]:
    """Return episodes of some calls, in groups that share a prompt; one in two succeeds."""
    random = Random(0)
    episodes = []
    for task in range(tasks):
        prompt = Log(random).text(PROMPT)
        for sample in range(GROUP):
            log = Log(random)
            log.conversation(prompt, calls=CALLS, reply=REPLY, answer=ANSWER)
            episodes.append(
                AgentEpisode(
                    episode=EpisodeKey("train", 0, task, sample),
                    agent="agent",
                    role="agent",
                    reward=float(sample % 2),
                    truncated=False,
                    timelines=build_timelines(log.calls, trained=range(CALLS)),
                )
            )
    return episodes


def rows_of(episodes: Sequence[AgentEpisode]) -> list[Row]:
    """Return the rows of a batch."""
    batch = flatten(episodes)
    return batch.rows_of(torch.ones(batch.units, dtype=torch.bool))


def fed_by_rank(rows: Sequence[Row], ranks: int) -> list[int]:
    """Return the tokens that each rank is fed."""
    return [prefix_tree_tokens(share) for share in balanced_shares(rows, ranks=ranks, merges=True)]


class Worker:
    """One of two processes; measures what it is asked for, after both are ready for it.

    Args:
        rank: From 0.
        plan: What is measured.
        rendezvous: File by which ranks find each other; must not exist.
        barrier: Of both.
    """

    def __init__(self, rank: int, plan: Plan, rendezvous: Path, barrier: Barrier) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.set_num_threads(1)
        self._barrier = barrier
        model = make_model(hidden=plan.hidden, layers=plan.layers, context=512)
        self._alone = GrpoLearner(copy.deepcopy(model), LEARNING)
        self._sampler = TransformersSampler(
            model,
            stop_token_ids=[],
            pad_token_id=0,
            config=TransformersSamplerConfig(
                context_length=SAMPLED_PROMPT + SAMPLED_REPLY, max_sessions=128, threads=1
            ),
        )
        self._model = model
        ranks = ProcessRanks(rank=rank, size=2, init_method=f"file://{rendezvous}")
        self._shared = GrpoLearner(copy.deepcopy(model), LEARNING, ranks=ranks)
        self._batches = {tasks: make_batch(tasks) for tasks in plan.tasks}

    def measure(self, what: str, amount: int, *, together: bool) -> float:
        """Return the seconds of one thing.

        Args:
            what: ``alone`` or ``shared``, an update; ``preparation``, what of an update is not
                divided, and ``share``, the same for two ranks; ``sample``, ``gather``, ``reduce``,
                ``optimizer`` or ``weights``.
            amount: Tasks, rows or bytes of it.
            together: Whether the other process is asked for something, too.
        """
        action = self._actions()[what]
        if together:
            self._barrier.wait()
        start = time.perf_counter()
        action(amount)
        return time.perf_counter() - start

    def _actions(self) -> Mapping[str, Callable[[int], object]]:
        return {
            "alone": lambda tasks: self._alone.update(self._batches[tasks]),
            "shared": lambda tasks: self._shared.update(self._batches[tasks]),
            "preparation": lambda tasks: rows_of(self._batches[tasks]),
            "share": lambda tasks: balanced_shares(
                rows_of(self._batches[tasks]), ranks=2, merges=True
            ),
            "sample": self._sample,
            "gather": partial(_collective, gather=True),
            "reduce": partial(_collective, gather=False),
            "optimizer": lambda _: _optimizer_step(self._model),
            "weights": lambda _: self._load_weights(),
        }

    def _sample(self, rows: int) -> None:
        async def complete() -> None:
            # Nothing is cached from before.
            await self._sampler.load_weights(self._model.state_dict(), version=0)
            params = SamplingParams(temperature=1.0, max_tokens=SAMPLED_REPLY)
            random = Random(0)
            await asyncio.gather(
                *(
                    self._sampler.generate(
                        [random.randrange(VOCABULARY) for _ in range(SAMPLED_PROMPT)],
                        params=params,
                        key=DrawKey(0, EpisodeKey("train", 0, row, 0), "agent", 0),
                    )
                    for row in range(rows)
                )
            )

        asyncio.run(complete())

    def _load_weights(self) -> None:
        weights = self._alone.weights()
        asyncio.run(self._sampler.load_weights(weights, version=0))


def _collective(size: int, *, gather: bool) -> None:
    whole = torch.zeros(size // 4)
    part = torch.zeros(size // 8)
    if gather:
        distributed.all_gather_single(whole, part)
    else:
        distributed.reduce_scatter_single(part, whole)


def _optimizer_step(model: Qwen3ForCausalLM) -> None:
    parameters = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.AdamW(parameters, lr=0.0).step()


def serve(
    rank: int, plan: Plan, rendezvous: Path, barrier: Barrier, connection: Connection
) -> None:
    """Measure whatever is asked for, until nothing more is."""
    worker = Worker(rank, plan, rendezvous, barrier)
    connection.send(0.0)
    while (asked := connection.recv()) is not None:
        what, amount, together = asked
        connection.send(worker.measure(what, amount, together=together))
    distributed.destroy_process_group()


class Workers:
    """Both processes; use it as a context manager."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._processes: list[SpawnProcess] = []
        self._connections: list[Connection] = []
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(2)
        rendezvous = Path(self._folder.name) / "rendezvous"
        for rank in range(2):
            here, there = context.Pipe()
            process = context.Process(
                target=serve, args=(rank, self._plan, rendezvous, barrier, there)
            )
            process.start()
            # The child's end must not be open here: its death would go unnoticed.
            there.close()
            self._processes.append(process)
            self._connections.append(here)
        for connection in self._connections:
            connection.recv()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process, connection in zip(self._processes, self._connections, strict=True):
            if kind is None:
                connection.send(None)
            else:
                process.kill()
            process.join()
        self._folder.cleanup()

    def alone(self, what: str, amount: int = 0) -> float:
        """Return the seconds of something that the first process does, and the second nothing."""
        self._connections[0].send((what, amount, False))
        seconds: float = self._connections[0].recv()
        return seconds

    def together(self, what: str, amount: int) -> float:
        """Return the seconds until both have done something that they begin together."""
        for connection in self._connections:
            connection.send((what, amount, True))
        seconds: list[float] = [connection.recv() for connection in self._connections]
        return max(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Medians, in seconds."""

    alone: dict[int, float]
    """Of an update of one rank, by tasks."""
    shared: float
    """Of an update of two ranks, of the most tasks."""
    preparation: dict[int, float]
    share: dict[int, float]
    learner_beside: tuple[float, float]
    """An update of one rank of the fewest tasks: alone, and beside another."""
    sampled: dict[int, float]
    """Of the replies of one sampler, by rows."""
    sampled_by_two: float
    """Half of the most rows each."""
    sampler_beside: tuple[float, float]
    """The replies of the fewest rows: alone, and beside another sampler."""
    collectives: dict[int, float]
    """An all-gather and a reduce-scatter, by bytes of each."""
    optimizer: float
    weights: float
    """Until a sampler has new weights."""


def measure(plan: Plan, workers: Workers) -> Measured:
    """Measure everything in turns, after each was done once."""
    largest, smallest = plan.tasks[-1], plan.tasks[0]
    ways: dict[tuple[str, int], Callable[[], float]] = {}
    for tasks in plan.tasks:
        for what in ("alone", "preparation", "share"):
            ways[what, tasks] = partial(workers.alone, what, tasks)
    for rows in plan.rows:
        ways["sample", rows] = partial(workers.alone, "sample", rows)
    for size in COLLECTIVE_BYTES:
        for what in ("gather", "reduce"):
            ways[what, size] = partial(workers.together, what, size)
    ways["shared", largest] = partial(workers.together, "shared", largest)
    ways["beside", smallest] = partial(workers.together, "alone", smallest)
    ways["by two", plan.rows[-1]] = partial(workers.together, "sample", plan.rows[-1] // 2)
    ways["sampler beside", plan.rows[0]] = partial(workers.together, "sample", plan.rows[0])
    ways["optimizer", 0] = partial(workers.alone, "optimizer")
    ways["weights", 0] = partial(workers.alone, "weights")
    taken: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    for repeat in range(1 + plan.repeats):
        for way, run in ways.items():
            seconds = run()
            if repeat > 0:
                taken[way].append(seconds)
    medians = {way: statistics.median(seconds) for way, seconds in taken.items()}

    def by_amount(what: str) -> dict[int, float]:
        return {amount: seconds for (name, amount), seconds in medians.items() if name == what}

    return Measured(
        alone=by_amount("alone"),
        shared=medians["shared", largest],
        preparation=by_amount("preparation"),
        share=by_amount("share"),
        learner_beside=(medians["alone", smallest], medians["beside", smallest]),
        sampled=by_amount("sample"),
        sampled_by_two=medians["by two", plan.rows[-1]],
        sampler_beside=(
            medians["sample", plan.rows[0]],
            medians["sampler beside", plan.rows[0]],
        ),
        collectives={
            size: medians["gather", size] + medians["reduce", size] for size in COLLECTIVE_BYTES
        },
        optimizer=medians["optimizer", 0],
        weights=medians["weights", 0],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The cost model of this machine, and what it predicts for two."""

    learner: LearnerCost
    link: Link
    learner_contention: float
    sampler: SamplerCost
    sampler_contention: float
    most_fed: int
    batch: int
    learner_terms: LearnerTerms
    sampled_s: float


def fit(plan: Plan, measured: Measured) -> Fitted:
    """Fit the model without the steps of two, and predict them."""
    rows = {tasks: rows_of(make_batch(tasks)) for tasks in plan.tasks}
    batches = {tasks: prefix_tree_tokens(each) for tasks, each in rows.items()}
    model = make_model(hidden=plan.hidden, layers=plan.layers, context=512)
    size = 4.0 * sum(parameter.numel() for parameter in model.parameters())
    learner = LearnerCost(
        preparation=Line.through(
            [(batches[tasks], seconds) for tasks, seconds in measured.share.items()]
        ),
        passes=Line.through(
            [
                (
                    batches[tasks],
                    seconds - measured.preparation[tasks] - measured.optimizer,
                )
                for tasks, seconds in measured.alone.items()
            ]
        ),
        optimizer_s=measured.optimizer,
        weight_bytes=size,
        gradient_bytes=size,
        parts=len(transformer_blocks(model)) + 1,
    )
    # Of a gather and a reduction together, of half the bytes each: 2 calls and 1 / 2 of both.
    collective = Line.through(list(measured.collectives.items()))
    link = Link(latency_s=collective.fixed_s / 2, bytes_per_s=1 / max(collective.each_s, 1e-15))
    sampler = SamplerCost(
        decoding=Line.through(
            [(count, seconds / SAMPLED_REPLY) for count, seconds in measured.sampled.items()]
        )
    )
    learner_contention = measured.learner_beside[1] / measured.learner_beside[0]
    sampler_contention = measured.sampler_beside[1] / measured.sampler_beside[0]
    tasks = plan.tasks[-1]
    most_fed = max(fed_by_rank(rows[tasks], 2))
    return Fitted(
        learner=learner,
        link=link,
        learner_contention=learner_contention,
        sampler=sampler,
        sampler_contention=sampler_contention,
        most_fed=most_fed,
        batch=batches[tasks],
        learner_terms=learner.step(
            ranks=2,
            batch=batches[tasks],
            most_fed=most_fed,
            link=link,
            contention=learner_contention,
        ),
        sampled_s=sampler.sample_s(
            samplers=2,
            tokens=plan.rows[-1] * SAMPLED_REPLY,
            longest=SAMPLED_REPLY,
            contention=sampler_contention,
        ),
    )


# What it says of GPUs.

_NVLINK = Link(latency_s=3e-6, bytes_per_s=450e9 * 0.7)
_NETWORK = Link(latency_s=10e-6, bytes_per_s=400e9 * 0.7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """Figures of a cluster that are assumed: those of an H100's data sheet, and what is had of it
    in practice.
    """

    in_machine: int = 8
    flops: float = 989e12 * 0.4
    """Of bfloat16 in a second, and the share of it that training is taken to reach."""
    memory_bytes_per_s: float = 3.35e12 * 0.6
    machine_link: Link = _NVLINK
    """Between GPUs of a machine."""
    network_link: Link = _NETWORK
    """Between machines, with 8 network adapters of 400 Gb/s each."""
    copy_bytes_per_s: float = 10e9
    """From a GPU to the object store and back."""
    store_bytes_per_s: float = 3e9
    """From object store to object store, over one TCP connection's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A model and a batch that are assumed."""

    parameters: float = 7.6e9
    layers: int = 28
    cache_bytes: float = 28 * 2 * 4 * 128 * 2
    """Keys and values of a token: layers, both, heads, size, bytes."""
    episodes: int = 2048
    group: int = 16
    prompt: int = 500
    mean_reply: int = 2000
    longest_reply: int = 8000
    most_rows: int = 256
    """That a sampler has at once."""

    @property
    def sampled(self) -> float:
        """Tokens of all replies."""
        return float(self.episodes * self.mean_reply)

    @property
    def batch(self) -> float:
        """Tokens of all replies and of each task's prompt."""
        return self.sampled + self.episodes / self.group * self.prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A step on so many GPUs, shared out in the best way among learner and samplers."""

    gpus: int
    ranks: int
    samplers: int
    sampled_tokens_per_s: float
    terms_s: dict[str, float]
    """What the step consists of; sampling and learning overlap."""
    binds: str
    """The largest term of the longer of both, or the transfer that is added to it."""


def of_gpus(work: Work, gpus: Gpus, preparation: Line) -> tuple[LearnerCost, SamplerCost]:
    """Return the model's figures for GPUs that are assumed.

    Args:
        work: What is trained.
        gpus: On which.
        preparation: As measured here: a processor does it there, too.
    """
    weights = 2 * work.parameters
    mean_context = work.prompt + work.mean_reply / 2
    learner = LearnerCost(
        preparation=preparation,
        # Forward, backward, and forward again where activations are not kept.
        passes=Line(fixed_s=0.0, each_s=8 * work.parameters / gpus.flops),
        # Weights, gradients and both moments in float32 are read, and three of them written.
        optimizer_s=28 * work.parameters / gpus.memory_bytes_per_s,
        weight_bytes=weights,
        gradient_bytes=2 * weights,
        parts=work.layers + 1,
    )
    sampler = SamplerCost(
        decoding=Line(
            fixed_s=weights / gpus.memory_bytes_per_s + work.layers * 20e-6,
            each_s=work.cache_bytes * mean_context / gpus.memory_bytes_per_s
            + 2 * work.parameters / gpus.flops,
        ),
        most_rows=work.most_rows,
    )
    return learner, sampler


def imbalance(work: Work, ranks: int) -> float:
    """Return what the busiest rank is fed, over an even share, of a batch of drawn lengths.

    Lengths are an eighth of the real ones, which changes no share by much.
    """
    random = Random(0)
    scale = 8
    rows = []
    for _ in range(work.episodes // work.group):
        log = Log(random)
        prompt = log.text(work.prompt // scale)
        for _ in range(work.group):
            length = int(random.expovariate(1 / work.mean_reply))
            reply = log.text(max(16, min(length, work.longest_reply)) // scale)
            rows.append(Row(token_ids=prompt + reply, reads=(len(prompt) - 1,), slots=(0,)))
    return max(fed_by_rank(rows, ranks)) * ranks / prefix_tree_tokens(rows)


def predict(
    count: int,
    work: Work,
    *,
    gpus: Gpus,
    learner: LearnerCost,
    sampler: SamplerCost,
    imbalances: Mapping[int, float],
) -> Prediction:
    """Return the fastest step on ``count`` GPUs.

    Args:
        count: How many.
        work: What is trained.
        gpus: Of which kind.
        learner: Costs there.
        sampler: Costs there.
        imbalances: What the busiest rank is fed over an even share, by the ranks to choose from.
    """

    def with_ranks(ranks: int) -> Prediction:
        samplers = count - ranks
        link = gpus.machine_link if ranks <= gpus.in_machine else gpus.network_link
        terms = learner.step(
            ranks=ranks,
            batch=work.batch,
            most_fed=work.batch / ranks * imbalances[ranks],
            link=link,
        )
        even = terms.passes_s / imbalances[ranks]
        sampling = sampler.sample_s(
            samplers=samplers, tokens=work.sampled, longest=work.longest_reply
        )
        floor = min(sampling, work.longest_reply * sampler.decoding.fixed_s)
        transfer = transfer_s(
            learner.weight_bytes,
            ranks=ranks,
            machines=math.ceil(samplers / gpus.in_machine),
            link=link,
            copy=gpus.copy_bytes_per_s,
            network=gpus.store_bytes_per_s,
        )
        rollout = {"sampling beyond the longest reply": sampling - floor, "longest reply": floor}
        learning = {
            "learner's compute": even,
            "imbalance": terms.passes_s - even,
            "preparation": terms.preparation_s,
            "optimizer": terms.optimizer_s,
            "collectives": terms.collectives_s,
        }
        step = max(sampling, terms.total_s) + transfer
        longer = rollout if sampling >= terms.total_s else learning
        candidates = longer | {"weight transfer": transfer}
        return Prediction(
            gpus=count,
            ranks=ranks,
            samplers=samplers,
            sampled_tokens_per_s=work.sampled / step,
            terms_s={"step": step, **rollout, **learning, "weight transfer": transfer},
            binds=max(candidates, key=lambda name: candidates[name]),
        )

    choices = [with_ranks(ranks) for ranks in imbalances if ranks < count]
    return max(choices, key=lambda choice: choice.sampled_tokens_per_s)


def print_prediction(predictions: Sequence[Prediction]) -> None:
    """Print what was predicted, and that it was."""
    print(
        "\nPREDICTION, not measured: a 7.6 B model on H100s that are assumed, sampling ahead by one"
    )
    print("  GPUs  learner  samplers    step s   tokens/s  efficiency  binds")
    first = predictions[0]
    for each in predictions:
        efficiency = (each.sampled_tokens_per_s / each.gpus) / (
            first.sampled_tokens_per_s / first.gpus
        )
        print(
            f"{each.gpus:6} {each.ranks:8} {each.samplers:9} {each.terms_s['step']:9.1f} "
            f"{each.sampled_tokens_per_s:10.0f} {efficiency:10.0%}   {each.binds}"
        )


def main() -> None:
    """Measure, predict and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small version, no measurement")
    quick = parser.parse_args().quick
    plan = QUICK if quick else FULL
    with Workers(plan) as workers:
        measured = measure(plan, workers)
    fitted = fit(plan, measured)
    learner_error = abs(fitted.learner_terms.total_s / measured.shared - 1)
    sampler_error = abs(fitted.sampled_s / measured.sampled_by_two - 1)
    sampled = plan.rows[-1] * SAMPLED_REPLY
    learner_rates = {
        1: fitted.batch / measured.alone[plan.tasks[-1]],
        2: fitted.batch / measured.shared,
    }
    sampler_rates = {
        1: sampled / measured.sampled[plan.rows[-1]],
        2: sampled / measured.sampled_by_two,
    }
    predicted = {
        "learner": fitted.batch / fitted.learner_terms.total_s,
        "samplers": sampled / fitted.sampled_s,
    }
    print(f"{'':10} {'1, tokens/s':>12} {'2, tokens/s':>12} {'predicted':>12} {'error':>7}")
    for name, rates, error in (
        ("learner", learner_rates, learner_error),
        ("samplers", sampler_rates, sampler_error),
    ):
        print(f"{name:10} {rates[1]:12.0f} {rates[2]:12.0f} {predicted[name]:12.0f} {error:7.1%}")
    print(
        f"contention {fitted.learner_contention:.2f} learning, {fitted.sampler_contention:.2f} "
        f"sampling; busiest of two ranks is fed {fitted.most_fed} of {fitted.batch} tokens"
    )
    work, gpus = Work(), Gpus()
    counts = (8, 64) if quick else (8, 16, 32, 64, 128, 256, 512, 1024)
    ranks_tried = [2**power for power in range(10) if 2**power < counts[-1]]
    imbalances = {ranks: imbalance(work, ranks) for ranks in ranks_tried}
    learner, sampler = of_gpus(work, gpus, fitted.learner.preparation)
    predictions = [
        predict(count, work, gpus=gpus, learner=learner, sampler=sampler, imbalances=imbalances)
        for count in counts
    ]
    print_prediction(predictions)
    report(
        "scaling",
        figures={
            "learner_tokens_per_s": learner_rates,
            "sampler_tokens_per_s": sampler_rates,
            "predicted_for_2": predicted,
            "learner_error": learner_error,
            "sampler_error": sampler_error,
            "measured_s": dataclasses.asdict(measured),
            "model": dataclasses.asdict(fitted),
            "prediction": {
                "note": "follows from assumptions, not measured",
                "gpus": dataclasses.asdict(gpus),
                "work": dataclasses.asdict(work),
                "imbalance": imbalances,
                "steps": [dataclasses.asdict(each) for each in predictions],
            },
        },
        bars={"prediction_error": Bar(max(learner_error, sampler_error), "<=", 0.15)},
        keep=not quick,
    )


if __name__ == "__main__":
    main()

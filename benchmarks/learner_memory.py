"""Memory and time of a step of the learner on a GPU: precision, checkpointing, adapters, contexts.

Every setting is composed as ``astuner train algo=grpo model=hf`` composes it, and its learner takes
whole steps in a process of its own: passes forward and back, clipping and AdamW. Models have random
weights in the shapes of published ones: their values change neither memory nor time. Batches are

- *trace*: one agent's conversation of so many tokens, in every 1,024 of which it reads 896 and then
  samples 128; another agent-episode of ten tokens is there to compare it with;
- *group*: eight replies of 512 tokens to one prompt of 4,096.

Batches of one setting follow each other, traces by length; after one that does not fit, longer ones
are left out. Of each, a first step is not counted. Then the largest amounts of memory that torch
has *allocated* and *reserved* are read over up to three steps, and their median seconds; allocated
memory apart for passes and optimizer. What CUDA takes for itself (*context*) comes on top. *held*
is what remains between steps, *start* the most while the learner was made; *computed* is what
docs/memory.md gives for weights, gradients and moments.

*rows* are the passes of calls that extend each other, *forest* feeds what a group shares once.

``gradients`` compares gradients of one batch by several learners on the GPU with those of the CPU:
norm of the difference over norm, of all weights together and of the worst by itself. A rank beside
which there is no other (FSDP2 over NCCL) is among them.
"""

from __future__ import annotations

import argparse
import copy
import gc
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from astuner_rl.algos.config import GrpoConfig
from astuner_rl.assembly import compute_dtype, lora_of
from astuner_rl.composition import compose_experiment
from astuner_rl.config import ExperimentConfig
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.learning.lora import Lora
from astuner_rl.learning.master_weights import compute_in
from astuner_rl.learning.pretrained import Pretrained, load_pretrained
from astuner_rl.learning.process_ranks import ProcessRanks
from astuner_rl.learning.sharded_tensors import whole
from astuner_rl.types import AgentEpisode
from benchmarks.forest import LAYOUTS, Log, agent_episodes, branches, group
from benchmarks.random_model import small_tokenizer
from benchmarks.report import keep_so_far, report

NAME = "learner_memory"
DEVICE = "cuda:0"
GIB = 2**30
READ, SAMPLED = 896, 128
"""Tokens of one turn of a trace."""
STEPS = 3
ENOUGH_S = 4.0
"""Seconds of counted steps after which no further one is taken."""
CONTEXTS = {"float32": (1024, 4096, 16384), "bfloat16": (1024, 4096, 16384, 32768)}
"""Lengths of traces; in float32 attention over the longest would not fit."""
LORA_RANK = 16
LAYOUT = {"rows": LAYOUTS["linear"], "forest": LAYOUTS["forest"]}

SHAPES: dict[str, dict[str, Any]] = {
    "Qwen2.5-0.5B": {
        "vocab_size": 151_936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "Qwen2.5-1.5B": {
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
    # Attention as in the first, and little else: for gradients.
    "two layers": {
        "vocab_size": 512,
        "hidden_size": 896,
        "intermediate_size": 1024,
        "num_hidden_layers": 2,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A learner, and the batches that it is given."""

    shape: str
    dtype: str
    layout: str
    lora_rank: int = 0
    checkpointing: bool = False
    contexts: tuple[int, ...] = ()
    """Of its traces."""
    group: bool = True
    """Whether it is given the group, too."""

    @property
    def name(self) -> str:
        """Such as ``Qwen2.5-0.5B, rank 16, bfloat16, checkpointing, rows``."""
        trained = [f"rank {self.lora_rank}"] if self.lora_rank else []
        checkpointing = ["checkpointing"] if self.checkpointing else []
        return ", ".join([self.shape, *trained, self.dtype, *checkpointing, self.layout])

    def overrides(self, folder: Path) -> list[str]:
        """Return what a user would write on the command line for the model in ``folder``."""
        return [
            "env=gsm8k",
            "algo=grpo",
            f"algo.gradient_checkpointing={str(self.checkpointing).lower()}",
            "model=hf",
            f"model.path={folder}",
            f"model.dtype={self.dtype}",
            f"model.lora_rank={self.lora_rank}",
        ]

    def batches(self) -> Iterator[tuple[str, Callable[[], list[AgentEpisode]]]]:
        """Yield the batches by name, those that need least first."""
        if self.group:
            yield "group", shared_prompt
        for context in self.contexts:
            yield f"trace {context}", partial(trace, context)


def settings() -> list[Setting]:
    """Return what is measured, what matters most first."""
    small, larger = "Qwen2.5-0.5B", "Qwen2.5-1.5B"
    some = (4096, 16384)

    def setting(shape: str, rank: int, dtype: str, layout: str, *, checkpointing: bool) -> Setting:
        return Setting(
            shape=shape,
            dtype=dtype,
            layout=layout,
            lora_rank=rank,
            checkpointing=checkpointing,
            contexts=CONTEXTS[dtype] if shape == small else some,
        )

    return [
        setting(small, 0, "bfloat16", "rows", checkpointing=True),
        setting(small, 0, "bfloat16", "rows", checkpointing=False),
        setting(small, LORA_RANK, "bfloat16", "rows", checkpointing=True),
        setting(small, LORA_RANK, "bfloat16", "rows", checkpointing=False),
        setting(small, 0, "float32", "rows", checkpointing=True),
        setting(small, 0, "float32", "rows", checkpointing=False),
        setting(small, 0, "bfloat16", "forest", checkpointing=True),
        setting(small, 0, "bfloat16", "forest", checkpointing=False),
        setting(larger, 0, "bfloat16", "rows", checkpointing=True),
        setting(larger, LORA_RANK, "bfloat16", "rows", checkpointing=True),
        setting(small, LORA_RANK, "float32", "rows", checkpointing=True),
        setting(small, LORA_RANK, "float32", "rows", checkpointing=False),
        setting(small, 0, "float32", "forest", checkpointing=True),
        setting(larger, LORA_RANK, "float32", "rows", checkpointing=True),
    ]


def trace(context: int) -> list[AgentEpisode]:
    """A conversation of ``context`` tokens, a multiple of a turn's, and one to compare it with."""
    log = Log(Random(0))
    prompt = log.text(READ)
    for turn in range(context // (READ + SAMPLED)):
        sampled = log.call(prompt, reply=SAMPLED, extends=turn - 1 if turn else None)
        prompt = sampled + log.text(READ)
    return agent_episodes([log.calls])


def shared_prompt() -> list[AgentEpisode]:
    """A group of replies to one prompt."""
    return agent_episodes(group(Random(0), size=8, prompt=4096, reply=512))


def random_model(shape: str, *, device: str) -> Qwen2ForCausalLM:
    """Return a float32 model of that shape, the same in every call on one kind of device."""
    torch.manual_seed(0)
    with torch.device(device):
        return Qwen2ForCausalLM(  # type: ignore[no-untyped-call]
            Qwen2Config(
                **SHAPES[shape],
                max_position_embeddings=32_768,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=None,
                pad_token_id=None,
            )
        )


def save_model(folder: Path, shape: str, *, device: str) -> None:
    """Write a folder as the published models are: in bfloat16, with a tokenizer."""
    model = random_model(shape, device=device)
    compute_in(model, torch.bfloat16)
    Pretrained(model, small_tokenizer(["env=gsm8k"])).save(folder)


# --- memory --------------------------------------------------------------------------------------


class Memory:
    """What torch has taken of a device; nothing is known of a CPU, of which all figures are 0."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._cuda = self._device.type == "cuda"

    def synchronize(self) -> None:
        """Wait until all that was asked for is done."""
        if self._cuda:
            torch.cuda.synchronize(self._device)

    def empty(self) -> None:
        """Give back what is free."""
        gc.collect()
        if self._cuda:
            torch.cuda.empty_cache()

    def reset(self) -> None:
        """Forget the largest amounts so far."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._device)

    def held_gib(self) -> float:
        """Allocated now."""
        return torch.cuda.memory_allocated(self._device) / GIB if self._cuda else 0.0

    def allocated_gib(self) -> float:
        """The most that was allocated since ``reset``."""
        return torch.cuda.max_memory_allocated(self._device) / GIB if self._cuda else 0.0

    def reserved_gib(self) -> float:
        """The most that was reserved since ``reset``."""
        return torch.cuda.max_memory_reserved(self._device) / GIB if self._cuda else 0.0

    def context_gib(self) -> float:
        """What the device has given away beyond what torch has reserved."""
        if not self._cuda:
            return 0.0
        free, total = torch.cuda.mem_get_info(self._device)
        return (total - free - torch.cuda.memory_reserved(self._device)) / GIB


@contextmanager
def before_optimizer_steps(call: Callable[[Optimizer], None]) -> Iterator[None]:
    """Call with the optimizer before each of its steps inside."""

    def hook(optimizer: Optimizer, *_: Any) -> None:
        call(optimizer)

    handle = register_optimizer_step_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def computed_gib(model: PreTrainedModel, *, dtype: str, adapters: int) -> float:
    """Return weights, gradients and moments by docs/memory.md.

    Args:
        model: Without adapters.
        dtype: That is computed in.
        adapters: How many parameters adapters have; 0 without any.
    """
    of_model, of_adapters = {
        (False, False): (16, 0),
        (True, False): (18, 0),
        (False, True): (8, 16),
        (True, True): (4, 18),
    }[dtype == "bfloat16", adapters > 0]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (of_model * parameters + of_adapters * adapters) / GIB


# --- steps ---------------------------------------------------------------------------------------

Results = Iterator[tuple[str, dict[str, Any]]]
"""What was measured, by name; what failed has ``failed``."""


def measure(
    setting: Setting, config: ExperimentConfig, pretrained: Pretrained, *, device: str
) -> Results:
    """Make the setting's learner and yield what it needs: at the start, then batch by batch.

    Args:
        setting: What to measure.
        config: Composed of its overrides.
        pretrained: The model that they name, on the CPU.
        device: Where to learn.
    """
    assert isinstance(config.algo, GrpoConfig)
    memory = Memory(device)
    torch.nn.Module.to(pretrained.model, device)
    memory.reset()
    learner = GrpoLearner(
        pretrained.model,
        config.algo,
        updates=config.train.steps,
        layout=LAYOUT[setting.layout],
        dtype=compute_dtype(config.model),
        lora=lora_of(config.model),
    )
    adapters = learner.adapters()
    of_adapters = 0 if adapters is None else sum(map(torch.numel, adapters.tensors.values()))
    yield (
        "start",
        {
            "start_gib": memory.allocated_gib(),
            "computed_gib": computed_gib(
                pretrained.model, dtype=setting.dtype, adapters=of_adapters
            ),
            "adapter_parameters": of_adapters,
        },
    )
    for name, make in setting.batches():
        failed = ""
        try:
            yield name, measure_batch(learner, make(), memory)
        except torch.OutOfMemoryError as error:
            failed = f"out of memory: {str(error).splitlines()[0]}"
        if failed:
            yield name, {"failed": failed}
            if name != "group":
                return
            memory.empty()


def measure_batch(
    learner: GrpoLearner, episodes: Sequence[AgentEpisode], memory: Memory
) -> dict[str, Any]:
    """Take steps and return their memory and time."""
    passes_gib = [0.0]

    def passes_are_over(_: Optimizer) -> None:
        memory.synchronize()
        passes_gib.append(memory.allocated_gib())
        memory.reset()

    learner.update(episodes)
    memory.synchronize()
    memory.empty()
    memory.reset()
    seconds: list[float] = []
    optimizer_gib = reserved_gib = 0.0
    while len(seconds) < STEPS and sum(seconds) < ENOUGH_S:
        with before_optimizer_steps(passes_are_over):
            start = time.perf_counter()
            metrics = learner.update(episodes).metrics
            memory.synchronize()
            seconds.append(time.perf_counter() - start)
        optimizer_gib = max(optimizer_gib, memory.allocated_gib())
        # Reserved memory is not given back in between, so that what it is now is the most.
        reserved_gib = max(reserved_gib, memory.reserved_gib())
        memory.reset()
    median = statistics.median(seconds)
    return {
        "allocated_gib": max(*passes_gib, optimizer_gib),
        "reserved_gib": reserved_gib,
        "passes_gib": max(passes_gib),
        "optimizer_gib": optimizer_gib,
        "held_gib": memory.held_gib(),
        "context_gib": memory.context_gib(),
        "step_s": median,
        "steps": len(seconds),
        "fed_tokens": int(metrics["tokens/forward"]),
        "trained_tokens": int(metrics["tokens/trained"]),
        "tokens_per_s": metrics["tokens/forward"] / median,
    }


# --- gradients -----------------------------------------------------------------------------------


def compare_gradients(model: PreTrainedModel, *, device: str) -> Results:
    """Yield how far gradients on the device are from those of the CPU, way by way."""
    episodes = agent_episodes(
        branches(Random(0), width=3) + group(Random(1), size=4, prompt=300, reply=40)
    )

    by = partial(gradients, model, episodes)
    cpu = by("forest", "cpu")
    yield "rows of single calls, CPU", distance(by("dense", "cpu"), cpu)
    lora = Lora(rank=LORA_RANK, alpha=LORA_RANK)
    dense = attempt(lambda: by("dense", device))
    forest = attempt(lambda: by("forest", device))
    yield "rows of single calls", compared(lambda: dense, cpu)
    ways: dict[str, tuple[Callable[[], Attempt], Callable[[], Attempt]]] = {
        "rows": (lambda: by("linear", device), lambda: cpu),
        "rows, bfloat16": (lambda: by("linear", device, dtype=torch.bfloat16), lambda: cpu),
        "rows, rank 16": (
            lambda: by("linear", device, lora=lora),
            lambda: by("linear", "cpu", lora=lora),
        ),
        "rows, one rank against one process": (
            lambda: by("linear", device, rank=True),
            lambda: by("linear", device),
        ),
        "forest": (lambda: forest, lambda: cpu),
        "forest against rows of single calls": (lambda: forest, lambda: dense),
        "forest in small passes": (
            lambda: by("forest", device, microbatch_tokens=400),
            lambda: cpu,
        ),
        "forest, checkpointing": (
            lambda: by("forest", device, gradient_checkpointing=True),
            lambda: cpu,
        ),
        "forest, bfloat16": (lambda: by("forest", device, dtype=torch.bfloat16), lambda: cpu),
    }
    for name, (way, reference) in ways.items():
        yield name, compared(way, attempt(reference))


Attempt = list[Tensor] | str
"""Gradients, or why there are none."""


def attempt(way: Callable[[], Attempt]) -> Attempt:
    """Return the gradients, or why there are none."""
    # What a GPU's compiler or libraries refuse, whatever that is, must not end the other checks.
    try:
        return way()
    except Exception as error:
        return reason(error)


def compared(way: Callable[[], Attempt], reference: Attempt) -> dict[str, Any]:
    """Return the distance of what the way gives to the reference, or why there is none."""
    found = attempt(way)
    if isinstance(found, str) or isinstance(reference, str):
        return {"failed": found if isinstance(found, str) else f"no reference: {reference}"}
    return distance(found, reference)


def distance(found: Sequence[Tensor], reference: Sequence[Tensor]) -> dict[str, Any]:
    """Return the distance of gradients relative to the norm, of all and of the worst weight."""

    def norm(tensors: Sequence[Tensor]) -> float:
        return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors))

    differences = [ours - theirs for ours, theirs in zip(found, reference, strict=True)]
    return {
        "relative": norm(differences) / norm(reference),
        "relative_worst": max(
            norm([difference]) / norm([theirs])
            for difference, theirs in zip(differences, reference, strict=True)
            if norm([theirs]) > 0
        ),
    }


def gradients(
    model: PreTrainedModel,
    episodes: Sequence[AgentEpisode],
    layout: str,
    device: str,
    *,
    microbatch_tokens: int = 8192,
    gradient_checkpointing: bool = False,
    dtype: torch.dtype | None = None,
    lora: Lora | None = None,
    rank: bool = False,
) -> list[Tensor]:
    """Return the gradients of a step of the model's copy, in float64 on the CPU.

    Args:
        model: On the CPU.
        episodes: The batch.
        layout: Of ``benchmarks.forest.LAYOUTS``.
        device: Where to learn.
        microbatch_tokens: See ``GrpoConfig``.
        gradient_checkpointing: See ``GrpoConfig``.
        dtype: See ``GrpoLearner``.
        lora: See ``GrpoLearner``.
        rank: Whether the learner is a rank of a group of one, in place of a process without ranks.
    """
    # What was compiled for other ways is not to count against this one.
    torch.compiler.reset()
    config = GrpoConfig(
        microbatch_tokens=microbatch_tokens,
        gradient_checkpointing=gradient_checkpointing,
        max_grad_norm=1e9,  # nothing is scaled
    )
    found: list[Tensor] = []

    def keep(optimizer: Optimizer) -> None:
        for part in optimizer.param_groups:
            found.extend(whole(each.grad).detach().double().cpu() for each in part["params"])

    with tempfile.TemporaryDirectory() as folder:
        ranks = None
        if rank:
            store = f"file://{folder}/store"
            ranks = ProcessRanks(rank=0, size=1, init_method=store, device=device)
        try:
            there = copy.deepcopy(model)
            torch.nn.Module.to(there, device)
            learner = GrpoLearner(
                there,
                config,
                layout=LAYOUTS[layout],
                ranks=ranks,
                dtype=dtype,
                lora=lora,
            )
            with before_optimizer_steps(keep):
                learner.update(episodes)
        finally:
            if ranks is not None:
                ranks.close()
    return found


# --- processes -----------------------------------------------------------------------------------


def reason(error: BaseException) -> str:
    """Return what failed in one line, and print where."""
    traceback.print_exception(error)
    lines = [line for line in str(error).splitlines() if line.strip()]
    # The first line of a compiler's error does not tell what is wrong.
    return f"{type(error).__name__}: {' | '.join(lines[:3])}"


class Child:
    """A process that measures one thing and sends what it finds.

    It imports and reads all that it needs at once, and uses the device from ``results`` on.
    """

    def __init__(self, setting: Setting | None, folder: Path, *, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # Ended with this process, however that ends.
        self._process = context.Process(
            target=_child, args=(theirs, setting, folder, device), daemon=True
        )
        self._process.start()
        theirs.close()

    def results(self) -> Results:
        """Let it measure, and yield what it sends."""
        try:
            self._pipe.send(None)
            while True:
                yield self._pipe.recv()
        except (EOFError, OSError):  # it has ended
            pass
        self._process.join()
        if self._process.exitcode:
            yield "process", {"failed": f"ended with exit status {self._process.exitcode}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def _child(pipe: Connection, setting: Setting | None, folder: Path, device: str) -> None:
    if setting is None:
        results = compare_gradients(random_model("two layers", device="cpu"), device=device)
    else:
        config = compose_experiment(setting.overrides(folder))
        results = measure(setting, config, load_pretrained(str(folder)), device=device)
    pipe.recv()
    # As above: one way or setting that this machine refuses must not end the others.
    try:
        for result in results:
            pipe.send(result)
    except Exception as error:
        pipe.send(("process", {"failed": reason(error)}))


def device_figures(device: str) -> dict[str, Any]:
    """Return what figures depend on besides the code."""
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": properties.name,
        "gpu_memory_gib": properties.total_memory / GIB,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def line(result: dict[str, Any]) -> str:
    """Return figures as people read them."""
    return "  ".join(
        f"{name.removesuffix('_gib')} {value:.3g}"
        if isinstance(value, float) and name.startswith("relative")
        else f"{name.removesuffix('_gib')} {value:.2f}"
        if isinstance(value, float)
        else f"{name} {value}"
        for name, value in result.items()
    )


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few settings, short contexts")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="by parts of names")
    parser.add_argument("--minutes", type=float, default=60.0, help="start nothing after so many")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.learner_memory measures a GPU and needs CUDA, which torch does not find")
        return 2
    end = time.monotonic() + 60 * arguments.minutes
    wanted: dict[str, Setting | None] = {setting.name: setting for setting in settings()}
    if arguments.quick:
        small = [
            Setting(shape="Qwen2.5-0.5B", dtype="bfloat16", layout=layout, contexts=(1024,))
            for layout in LAYOUT
        ]
        wanted = {setting.name: setting for setting in small}
    # After the first, so that an early end has both.
    names = list(wanted)
    names.insert(1, "gradients")
    wanted["gradients"] = None
    if arguments.only:
        names = [name for name in names if any(text in name for text in arguments.only)]
    # In a process of its own: this one takes nothing of the device.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        figures: dict[str, Any] = {
            "device": pool.apply(device_figures, (DEVICE,)),
            "settings": {},
        }
    keep = not arguments.quick and not arguments.only
    with tempfile.TemporaryDirectory() as folder:
        run(names, wanted, Path(folder), figures, end=end, keep=keep)
    report(NAME, figures=figures, bars={}, keep=keep)
    return 0


def run(
    names: Sequence[str],
    wanted: dict[str, Setting | None],
    folder: Path,
    figures: dict[str, Any],
    *,
    end: float,
    keep: bool,
    device: str = DEVICE,
) -> None:
    """Measure one after the other, and add to ``figures`` what each is found to need.

    Args:
        names: What of ``wanted``; None there stands for the gradients.
        wanted: By name.
        folder: For models.
        figures: With ``settings``.
        end: By the monotonic clock, when nothing more is begun.
        keep: Whether to write each result as it comes.
        device: Where to learn.
    """
    context = multiprocessing.get_context("spawn")
    shapes = {setting.shape for name in names if (setting := wanted[name]) is not None}
    # In processes of their own, which give all memory back.
    writers = [
        context.Process(
            target=save_model, args=(folder / shape, shape), kwargs={"device": device}, daemon=True
        )
        for shape in shapes
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    def child(name: str) -> Child:
        setting = wanted[name]
        return Child(setting, folder / ("" if setting is None else setting.shape), device=device)

    following = child(names[0]) if names else None
    for place, name in enumerate(names):
        assert following is not None
        with following as measuring:
            if time.monotonic() > end:
                print(f"no time for: {'; '.join(names[place:])}", flush=True)
                figures["left_out"] = list(names[place:])
                return
            # The next one gets ready meanwhile.
            following = child(names[place + 1]) if place + 1 < len(names) else None
            print(f"\n{name}", flush=True)
            found = figures["settings"].setdefault(name, {})
            for part, result in measuring.results():
                found[part] = result
                print(f"  {part:36} {line(result)}", flush=True)
                if keep:
                    keep_so_far(NAME, figures=figures)


if __name__ == "__main__":
    # A group of one rank talks to nobody, but its libraries look for an interface.
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    sys.exit(main())

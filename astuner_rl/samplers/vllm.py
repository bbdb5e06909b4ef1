"""A sampler over vLLM: an engine in processes of its own, whose weights change while it runs."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from astuner_rl.errors import BrokenSamplerError, SamplerError
from astuner_rl.rules import require_choice, require_positive, require_range
from astuner_rl.samplers.adapters import check_adapters, require_base, split
from astuner_rl.samplers.draws import draw_seed, uniform
from astuner_rl.samplers.validation import check_request, check_settings
from astuner_rl.samplers.vllm_engine import EngineRequest, EngineSettings, TokenEngine, VllmEngine
from astuner_rl.samplers.vllm_weights import memory_file, write_weights
from astuner_rl.types import Completion, FinishReason, VersionChange

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from astuner_rl.types import DrawKey, EpisodeKey, SamplingParams

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LOWEST_TEMPERATURE, _HIGHEST_TEMPERATURE = 0.01, 2.0
_ATTEMPTS = 3
"""How often a completion is begun that the engine gives up."""
_SEED_BITS = 53
_CLOSED = "the sampler is closed; make a new one to go on"


@dataclass(kw_only=True)
class VllmSamplerConfig:
    """Settings of ``VllmSampler``."""

    context_length: int = 1024
    """Tokens of prompt and completion together, at most."""
    max_sessions: int = 256
    """Requests that run at the same time; more requests wait."""
    dtype: str = "float32"
    """Type of weights, keys and values. ``float32`` gives the learner's log-probs within 1e-4.
    ``bfloat16`` and ``float16`` are faster on a GPU and off by a tenth, as
    ``policy/logprob_gap_max`` shows: correct for it by ``algo.importance_bound``."""
    cache_gib: float = 1.0
    """GiB for keys and values, of each worker; on a GPU, of its memory."""
    tensor_parallel: int = 1
    """Workers that share each layer: GPUs, or processes on a CPU."""
    threads: int = 1
    """Threads that compute in each worker on a CPU; more than there are idle cores are slower."""
    enforce_eager: bool = True
    """False compiles the model and, on a GPU, records CUDA graphs: slower to start, then faster."""

    def __post_init__(self) -> None:
        require_range("sampler.context_length", self.context_length, low=2)
        require_range("sampler.max_sessions", self.max_sessions, low=1)
        require_choice("sampler.dtype", self.dtype, tuple(_DTYPES))
        require_positive("sampler.cache_gib", self.cache_gib)
        require_range("sampler.tensor_parallel", self.tensor_parallel, low=1)
        require_range("sampler.threads", self.threads, low=1)

    def engine_settings(self) -> EngineSettings:
        """Return them as the engine takes them."""
        return EngineSettings(
            context_length=self.context_length,
            max_sessions=self.max_sessions,
            dtype=_DTYPES[self.dtype],
            cache_gib=self.cache_gib,
            tensor_parallel=self.tensor_parallel,
            threads=self.threads,
            enforce_eager=self.enforce_eager,
        )


@dataclass(slots=True, eq=False)
class _Running:
    """A request in the engine."""

    interrupted: bool = False
    """Whether it was aborted so that its completion goes on under other weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one request sampled: a completion, or a piece of it."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    policy_version: int
    finish_reason: FinishReason
    """``ABORT`` where the completion goes on."""


class VllmSampler:
    """Samples from a copy of a Hugging Face causal LM in vLLM.

    A request is sampled by the weights that were there when it was handed to the engine: none is
    handed over, and none is in the engine, while they change. For a completion that shall go on
    under new weights, the engine is asked twice: its first request is aborted, and the second one
    continues from the tokens of the first. So every token's version is known, whatever the engine
    does in between.

    Equal keys draw equal numbers, but a row's log-probs are rounded as the batch around it has it,
    so that results are not exact.

    Args:
        model: What the engine has a copy of; only names, shapes and configuration are read.
        engine: Samples; it is closed with the sampler.
        stop_token_ids: Each ends a completion, as its last token.
        config: Settings.
        policy_version: Version of the weights that the engine has.

    Raises:
        SettingError: ``context_length`` exceeds the model's, or a token is not in its vocabulary.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        engine: TokenEngine,
        *,
        stop_token_ids: Sequence[int],
        config: VllmSamplerConfig,
        policy_version: int = 0,
    ) -> None:
        _check(model, config, stop_token_ids)
        self._engine = engine
        self._config = config
        self._stop_token_ids = list(stop_token_ids)
        self._policy_version = policy_version
        self._vocab_size: int = model.config.get_text_config().vocab_size
        self._shapes = {name: weight.shape for name, weight in model.state_dict().items()}
        self._has_base = False
        """Whether the engine has what adapters are added to."""
        self._names = map(str, itertools.count())
        self._running: dict[str, _Running] = {}
        self._idle = asyncio.Event()
        """Set while no request is in the engine."""
        self._idle.set()
        self._handing_over = asyncio.Lock()
        """Held while a request is handed to the engine, and while weights change."""
        self._broken = ""
        """Why nothing can be sampled any more."""

    @classmethod
    def start(
        cls,
        model: PreTrainedModel,
        *,
        stop_token_ids: Sequence[int],
        config: VllmSamplerConfig,
        policy_version: int = 0,
    ) -> VllmSampler:
        """Start an engine of a copy of ``model``, which takes most of a minute.

        Its processes end with ``close``, or with this process.

        Raises:
            SettingError: vLLM is not installed, does not know the model, or lacks memory; or as
                for the class.
        """
        _check(model, config, stop_token_ids)
        return cls(
            model,
            VllmEngine.start(model, config.engine_settings()),
            stop_token_ids=stop_token_ids,
            config=config,
            policy_version=policy_version,
        )

    @property
    def policy_version(self) -> int:
        """Version of the weights that the next request is sampled with."""
        return self._policy_version

    @property
    def exact(self) -> bool:
        """Results do not repeat bit for bit."""
        return False

    async def generate(
        self, prompt_ids: Sequence[int], *, params: SamplingParams, key: DrawKey
    ) -> Completion:
        """Sample one completion; cancelling the await ends it in the engine, too.

        Raises:
            ContextOverflowError: The prompt leaves no room for a token.
            SamplerError: Prompt or parameters are unusable, or the engine failed.
            BrokenSamplerError: The engine has failed for good, or was closed.
        """
        prompt = list(prompt_ids)
        check_request(
            np.asarray(prompt, np.int64),
            params,
            context_length=self._config.context_length,
            vocab_size=self._vocab_size,
        )
        _check_temperature(params.temperature)
        limit = min(params.max_tokens, self._config.context_length - len(prompt))
        seed = draw_seed(key)
        parts: list[_Part] = []
        given_up = 0
        while True:
            tokens = [token for part in parts for token in part.token_ids]
            part = await self._sample(
                EngineRequest(
                    prompt_ids=prompt + tokens,
                    temperature=params.temperature,
                    max_tokens=limit - len(tokens),
                    stop_token_ids=self._stop_token_ids,
                    # The seed of the first part would draw its numbers once more.
                    seed=int(uniform(seed, len(tokens)) * 2**_SEED_BITS),
                )
            )
            if part is None:
                # From the start: it shall have one version if no weights were changed in flight.
                parts = []
                given_up += 1
                if given_up == _ATTEMPTS:
                    raise SamplerError(
                        f"vLLM must end a completion that it begins, but gave it up {_ATTEMPTS} "
                        "times; lower sampler.max_sessions or raise sampler.cache_gib"
                    )
                continue
            parts.append(part)
            if part.finish_reason is not FinishReason.ABORT:
                return _completion(parts)

    def release(self, episode: EpisodeKey) -> None:
        """Nothing: the engine caches prefixes, and drops those used longest ago."""

    async def load_weights(
        self, weights: Mapping[str, torch.Tensor], *, version: int, in_flight: bool = False
    ) -> None:
        """Replace the engine's weights and drop everything cached.

        Args:
            weights: All of the model's state dict; a tied output head is named, too. Or adapters,
                the first time together with all that.
            version: Of the new weights.
            in_flight: Whether completions that run go on with them; otherwise they end first. See
                :class:`astuner_rl.samplers.protocol.Sampler`.

        Raises:
            SamplerError: Names or shapes are not the model's: the old weights stay.
            BrokenSamplerError: The engine failed or was closed.
        """
        whole, adapters = split(weights)
        if whole or not adapters:
            self._check_weights(whole)
        check_adapters(adapters, self._shapes)
        require_base(known=bool(whole) or self._has_base or not adapters)
        self._require_whole()
        # Merged in the learner's type, so that they come to what it has, and rounded then.
        dtype = None if adapters else _DTYPES[self._config.dtype]
        with memory_file() as path:
            await asyncio.to_thread(write_weights, path, weights, dtype=dtype)
            async with self._handing_over:
                if in_flight:
                    await self._interrupt()
                else:
                    await self._idle.wait()
                self._require_whole()
                await self._replace_weights(path)
                self._has_base = bool(adapters)
                self._policy_version = version

    async def close(self) -> None:
        """Fail every unfinished request and end the engine's processes."""
        if self._broken == _CLOSED:
            return
        self._broken = _CLOSED
        with suppress(Exception):  # a dead engine may refuse to, in any way
            await self._engine.abort(list(self._running))
        await asyncio.to_thread(self._engine.close)

    async def _sample(self, request: EngineRequest) -> _Part | None:
        """Return what the engine sampled; None if it gave the request up."""
        name, running = next(self._names), _Running()
        try:
            async with self._handing_over:
                self._require_whole()
                version = self._policy_version
                self._running[name] = running
                self._idle.clear()
                waiting = await self._engine.submit(name, request)
            sampled = await waiting
        except asyncio.CancelledError:
            with suppress(Exception):  # a dead engine may refuse to, in any way
                await self._engine.abort([name])
            raise
        except SamplerError:
            raise
        except Exception as error:  # whatever the engine raises, it could not answer
            self._require_whole()
            raise self._failure(error) from error
        finally:
            self._running.pop(name, None)
            if not self._running:
                self._idle.set()
        match sampled.ended:
            case "stop":
                finish_reason = FinishReason.STOP
            case "length":
                finish_reason = FinishReason.LENGTH
            case "abort" if running.interrupted:
                finish_reason = FinishReason.ABORT
            case _:
                return None
        # The engine's own are raw where it takes the most likely token.
        greedy = request.temperature == 0
        return _Part(
            token_ids=sampled.token_ids,
            logprobs=(0.0,) * len(sampled.token_ids) if greedy else sampled.logprobs,
            policy_version=version,
            finish_reason=finish_reason,
        )

    async def _interrupt(self) -> None:
        """End all requests in the engine; their completions go on once weights are loaded."""
        for running in self._running.values():
            running.interrupted = True
        try:
            await self._engine.abort(list(self._running))
        except Exception as error:  # whatever the engine raises, it could not answer
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> SamplerError:
        kind = BrokenSamplerError if self._engine.dead else SamplerError
        return kind(f"vLLM failed: {self._engine.failure(error)}")

    async def _replace_weights(self, path: str) -> None:
        try:
            await self._engine.load_weights(path)
        except BaseException as error:
            # Some of its tensors may be new: what it would sample has no version.
            self._broken = "vLLM could not take new weights; start the run again"
            if isinstance(error, Exception):
                self._broken = f"vLLM could not take new weights: {self._engine.failure(error)}"
                raise BrokenSamplerError(self._broken) from error
            raise

    def _require_whole(self) -> None:
        if self._broken:
            raise BrokenSamplerError(self._broken)

    def _check_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        # vLLM would take a part of them, silently, and sample from a mixture.
        shapes = {name: weight.shape for name, weight in weights.items()}
        if shapes != self._shapes:
            wrong = sorted(
                name
                for name in shapes.keys() | self._shapes.keys()
                if shapes.get(name) != self._shapes.get(name)
            )
            raise SamplerError(
                "weights must be all of the model's state dict, with its names and shapes, but "
                f"{len(wrong)} differ or lack, such as {wrong[:3]}; load the learner and the "
                "sampler from the same model"
            )


def _completion(parts: Sequence[_Part]) -> Completion:
    """Return the parts as one completion, which notes where the version changes."""
    sampled = [part for part in parts if part.token_ids]
    token_ids: list[int] = []
    changes: list[VersionChange] = []
    for before, part in itertools.pairwise([sampled[0], *sampled]):
        if part.policy_version != before.policy_version:
            changes.append(VersionChange(position=len(token_ids), version=part.policy_version))
        token_ids += part.token_ids
    return Completion(
        token_ids=tuple(token_ids),
        logprobs=tuple(logprob for part in sampled for logprob in part.logprobs),
        finish_reason=parts[-1].finish_reason,
        policy_version=sampled[0].policy_version,
        version_changes=tuple(changes),
    )


def _check(
    model: PreTrainedModel, config: VllmSamplerConfig, stop_token_ids: Sequence[int]
) -> None:
    check_settings(
        model.config.get_text_config(),
        context_length=config.context_length,
        token_ids=stop_token_ids,
    )


def _check_temperature(temperature: float) -> None:
    # It would sample at another one, or refuse in words of its own.
    if temperature != 0 and not _LOWEST_TEMPERATURE <= temperature <= _HIGHEST_TEMPERATURE:
        raise SamplerError(
            f"with sampler=vllm, temperature must be 0 or between {_LOWEST_TEMPERATURE} and "
            f"{_HIGHEST_TEMPERATURE:g}, got {temperature}; change it, or set sampler=transformers"
        )

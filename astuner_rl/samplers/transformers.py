"""The embedded sampler: a Hugging Face causal LM in this process, continuously batched."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from astuner_gym.errors import SettingError
from astuner_rl.one_thread import one_intra_op_thread
from astuner_rl.samplers.adapters import adapted, check_adapters, require_base, split
from astuner_rl.samplers.batching import ContinuousBatcher, Request
from astuner_rl.samplers.engine import Engine
from astuner_rl.samplers.families import misfit
from astuner_rl.samplers.kv_cache import ATTENTION_NAME, SlotCache, key_counts
from astuner_rl.samplers.row_blocks import (
    ROWS,
    QueryRows,
    cut_products,
    find_query_rows,
    usual_query_rows,
)
from astuner_rl.samplers.validation import check_request, check_settings
from astuner_rl.samplers.weights import copy_merged, copy_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from astuner_rl.types import Completion, DrawKey, EpisodeKey, SamplingParams

_SLOT_ALIGNMENT = 64
_VECTOR = 32
"""Numbers that an activation function on CPU takes at a time; a rest is rounded otherwise."""
_Group = tuple[str, int, int]
"""Phase, step and task of episodes that begin alike."""


@dataclass(kw_only=True)
class TransformersSamplerConfig:
    """Settings of ``TransformersSampler``."""

    context_length: int = 1024
    """Tokens of prompt and completion together, at most."""
    max_sessions: int = 256
    """Sequences that are cached, and requests that run, at the same time; more requests wait, and
    the cached tokens of agents idle for longest make room for others. It is a matter of speed and
    memory only: results do not depend on it."""
    prefill_tokens: int = 512
    """Prompt tokens that are computed in one forward pass beside the decoding, at most."""
    threads: int = 2
    """Threads that sample on a CPU, each its own batch with its share of the sessions; a GPU has
    one. Results do not depend on it."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("context_length", self.context_length, 2),
            ("max_sessions", self.max_sessions, 1),
            ("prefill_tokens", self.prefill_tokens, 1),
            ("threads", self.threads, 1),
        ):
            if value < least:
                raise SettingError(
                    f"sampler.{name} must be >= {least}, got {value}; set it to {least} or more"
                )


class TransformersSampler:
    """Samples from a copy of a Hugging Face causal LM (Llama, Qwen2, Qwen3, Mistral families).

    Batches are decoded in threads of their own, so that the event loop on which the agents run goes
    on meanwhile. On a CPU there are several: two batches on two cores are faster than one whose
    every operation is cut in two, and each token is still computed by one thread, hence exactly.
    All episodes of a task share a thread, and there the tokens that their prompts begin with. An
    agent's cached tokens are kept until its episode is released, so that its next prompt is
    computed only from where it differs.

    With ``exact``, tokens and log-probs are a function of weights, prompt, parameters and key, bit
    for bit: neither the requests beside it, nor their order, nor what is cached changes them. For
    that, it looks at how the processor computes the model's products (``row_blocks``).

    Args:
        model: Is copied, not kept.
        stop_token_ids: Each ends a completion, as its last token.
        pad_token_id: Fills up forward passes; any token of the vocabulary will do.
        config: Settings.
        policy_version: Version of the weights that ``model`` has.

    Raises:
        SettingError: ``context_length`` exceeds the model's, a token is not in its vocabulary, or
            the model's type or rotary embedding is not supported.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_token_ids: Sequence[int],
        pad_token_id: int,
        config: TransformersSamplerConfig,
        policy_version: int = 0,
    ) -> None:
        shape = model.config.get_text_config()
        why = misfit(shape)
        if why is not None:
            raise SettingError(f"{why}; choose another model, or another sampler")
        check_settings(
            shape,
            context_length=config.context_length,
            token_ids=(*stop_token_ids, pad_token_id),
        )
        self._config = config
        self._policy_version = policy_version
        self._vocab_size: int = shape.vocab_size
        own = copy.deepcopy(model).train(False).requires_grad_(False)
        own.set_attn_implementation(ATTENTION_NAME)
        head_dim: int = own.get_submodule(f"{own.base_model_prefix}.layers.0.self_attn").head_dim
        capacity = -(-config.context_length // _SLOT_ALIGNMENT) * _SLOT_ALIGNMENT
        query_rows, rows_alike = usual_query_rows(head_dim), False
        if model.device.type == "cpu" and model.dtype == torch.float32:
            query_rows, rows_alike = _rows_made_alike(own, head_dim=head_dim, capacity=capacity)
        self._exact = rows_alike and (ROWS * shape.intermediate_size) % _VECTOR == 0
        self._model = own
        self._base: Mapping[str, torch.Tensor] = {}
        """What adapters are added to: the learner's own tensors, which never change."""
        threads = config.threads if model.device.type == "cpu" else 1
        slots = -(-config.max_sessions // threads)
        self._engines = [
            Engine(
                ContinuousBatcher(
                    own,
                    slots=slots,
                    context_length=config.context_length,
                    prefill_tokens=config.prefill_tokens,
                    stop_token_ids=stop_token_ids,
                    pad_token_id=pad_token_id,
                    cache=SlotCache(
                        layers=shape.num_hidden_layers,
                        slots=slots,
                        capacity=capacity,
                        kv_heads=shape.num_key_value_heads,
                        head_dim=head_dim,
                        query_rows=query_rows,
                        dtype=model.dtype,
                        device=model.device,
                    ),
                    policy_version=policy_version,
                )
            )
            for _ in range(threads)
        ]
        self._unfinished = [0] * threads
        """By engine, tokens that its requests may still sample, at most."""
        self._homes: dict[_Group, int] = {}
        """Which engine samples for a group of episodes, until the weights change."""
        self._running = 0
        self._idle = asyncio.Event()
        """Set while no request runs."""
        self._idle.set()
        self._open = asyncio.Event()
        """Set while requests may start; cleared while weights are loaded."""
        self._open.set()

    @property
    def policy_version(self) -> int:
        """Version of the weights that the next request is sampled with."""
        return self._policy_version

    @property
    def exact(self) -> bool:
        """Whether results are reproducible bit for bit: CPU, float32, and rows come out alike."""
        return self._exact

    async def generate(
        self, prompt_ids: Sequence[int], *, params: SamplingParams, key: DrawKey
    ) -> Completion:
        """Sample one completion; cancelling the await frees what it holds.

        Raises:
            ContextOverflowError: The prompt leaves no room for a token.
            SamplerError: Prompt or parameters are unusable, or the sampler broke or was closed.
        """
        request = Request(prompt_ids=np.asarray(prompt_ids, np.int64), params=params, key=key)
        check_request(
            request.prompt_ids,
            params,
            context_length=self._config.context_length,
            vocab_size=self._vocab_size,
        )
        await self._open.wait()
        # A sampler that is broken in part would answer some episodes of a batch and not others.
        for engine in self._engines:
            engine.require_alive()
        home = self._home(key.episode)
        future = self._engines[home].submit(request)
        self._unfinished[home] += params.max_tokens
        self._running += 1
        self._idle.clear()
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._engines[home].cancel(request)
            raise
        finally:
            self._unfinished[home] -= params.max_tokens
            self._running -= 1
            if self._running == 0:
                self._idle.set()

    def release(self, episode: EpisodeKey) -> None:
        """Let the cached tokens of an episode go first when room is needed."""
        self._engines[self._home(episode)].release(episode)

    async def load_weights(
        self, weights: Mapping[str, torch.Tensor], *, version: int, in_flight: bool = False
    ) -> None:
        """Copy weights into the sampler's own model and drop everything cached.

        Args:
            weights: Named as in the model's state dict; of tensors that are tied, one will do. Or
                adapters; what they are added to is kept, not copied.
            version: Of the new weights.
            in_flight: Whether requests that run go on with them; otherwise they end first. See
                :class:`astuner_rl.samplers.protocol.Sampler`.

        Raises:
            SamplerError: Names or shapes are not the model's; the old weights stay. Or the sampler
                broke or was closed.
        """
        self._open.clear()
        try:
            if not in_flight:
                await self._idle.wait()
            await self._change_weights(weights, version=version)
            self._homes.clear()
            self._policy_version = version
        finally:
            self._open.set()

    async def close(self) -> None:
        """Fail every unfinished request and end the threads."""
        for engine in self._engines:
            await asyncio.to_thread(engine.close)

    def _home(self, episode: EpisodeKey) -> int:
        """Return the engine of an episode's group; a new group goes where least is to be done."""
        group = (episode.phase, episode.step, episode.task)
        if group not in self._homes:
            self._homes[group] = self._unfinished.index(min(self._unfinished))
        return self._homes[group]

    async def _change_weights(self, weights: Mapping[str, torch.Tensor], *, version: int) -> None:
        """Copy weights while every engine stands still between two steps, since they share them."""
        loaded: Future[bool] = Future()

        def stand_still(batcher: ContinuousBatcher, standing: Future[None]) -> None:
            standing.set_result(None)
            if loaded.result():
                batcher.change_weights(policy_version=version)

        changes = []
        try:
            standing: list[Future[None]] = [Future() for _ in self._engines]
            for engine, stands in zip(self._engines, standing, strict=True):
                changes.append(engine.call(partial(stand_still, standing=stands)))
            for stands in standing:
                await asyncio.wrap_future(stands)
            self._copy(weights)
            loaded.set_result(True)
        finally:
            if not loaded.done():
                loaded.set_result(False)
        for change in changes:
            await asyncio.wrap_future(change)

    def _copy(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Copy weights, or what adapters come to, into the model."""
        whole, adapters = split(weights)
        if adapters:
            own = self._model.state_dict()
            check_adapters(adapters, {name: weight.shape for name, weight in own.items()})
        if whole or not adapters:
            copy_weights(self._model, whole)
            self._base = {name: whole[name] for name in adapted(adapters)}
        require_base(known=set(adapted(adapters)) <= self._base.keys())
        copy_merged(self._model, self._base, adapters)


def _rows_made_alike(
    model: PreTrainedModel, *, head_dim: int, capacity: int
) -> tuple[QueryRows, bool]:
    """Cut a model's products and attention as this processor needs it; whether that suffices."""
    with torch.inference_mode(), one_intra_op_thread():
        products = cut_products(model)
        query_rows = find_query_rows(head_dim, key_counts(capacity))
    return query_rows or usual_query_rows(head_dim), products and query_rows is not None

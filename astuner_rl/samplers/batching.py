"""Continuous batching: requests join and leave while others decode.

One ``step`` is one forward pass over a flat row of tokens: the last token of every sequence that
decodes, and a limited number of prompt tokens of those that joined. Per-sequence state lies in
numpy arrays indexed by slot, so that a step costs a fixed number of array operations and no loop
over the sequences that merely go on.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from astuner_rl.errors import NonFiniteLogitsError
from astuner_rl.samplers.draws import draw_seed, uniforms
from astuner_rl.samplers.kv_cache import (
    AttentionPlan,
    SlotCache,
    Tile,
    padded_keys,
)
from astuner_rl.samplers.row_blocks import rows_missing
from astuner_rl.samplers.sampling import sample_tokens
from astuner_rl.samplers.slot_table import Session, SlotTable, Wait
from astuner_rl.types import (
    Completion,
    DrawKey,
    EpisodeKey,
    FinishReason,
    SamplingParams,
    VersionChange,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One prompt to complete, with room for at least one token; equal only to itself."""

    prompt_ids: NDArray[np.int64]
    """[P]"""
    params: SamplingParams
    key: DrawKey
    wait: Wait | None = field(default=None, init=False)
    """What its placement waits for."""

    @property
    def session(self) -> Session:
        """Whose slot it may continue."""
        return Session(self.key.episode, self.key.agent)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The flat row of one forward pass, before it becomes tensors."""

    slots: NDArray[np.int64]
    """[N] slot of each token."""
    positions: NDArray[np.int64]
    """[N] position of each token in its sequence."""
    sampling: NDArray[np.int64]
    """[R] indices of the tokens after which one is sampled."""
    tiles: list[Tile]


class ContinuousBatcher:
    """Completes requests with one model, many at a time; it is used by one thread.

    The model may be shared with other batchers: nothing but its weights is kept in it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        slots: int,
        context_length: int,
        prefill_tokens: int,
        stop_token_ids: Sequence[int],
        pad_token_id: int,
        cache: SlotCache,
        policy_version: int,
    ) -> None:
        self._model = model
        self._policy_version = policy_version
        self._cache = cache
        self._device = model.device
        self._context_length = context_length
        self._prefill_tokens = prefill_tokens
        self._pad_token_id = pad_token_id
        self._is_stop = np.zeros(model.config.get_text_config().vocab_size, bool)
        self._is_stop[list(stop_token_ids)] = True
        self._table = SlotTable(slots=slots, capacity=context_length)
        self._queue: deque[Request] = deque()
        self._running: dict[int, Request] = {}
        """By slot."""
        self._prefilling: dict[int, None] = {}
        """Slots whose tokens are not wholly cached, in order of arrival."""
        self._decoding: NDArray[np.int64] = np.zeros(0, np.int64)
        """Slots that sample a token in every step."""
        self._padded_keys = np.array(
            [padded_keys(position, cache.capacity) for position in range(context_length)]
        )
        # Per slot; what they hold for slots without a request is of no account.
        self._logprobs: NDArray[np.float64] = np.zeros((slots, context_length))
        self._seeds: NDArray[np.uint64] = np.zeros(slots, np.uint64)
        self._temperatures: NDArray[np.float64] = np.zeros(slots)
        self._prompt_lengths: NDArray[np.int64] = np.zeros(slots, np.int64)
        self._lengths: NDArray[np.int64] = np.zeros(slots, np.int64)
        """Of prompt and sampled tokens; a slot samples once so many are cached."""
        self._limits: NDArray[np.int64] = np.zeros(slots, np.int64)
        self._first_versions: NDArray[np.int64] = np.zeros(slots, np.int64)
        self._version_changes: dict[int, list[VersionChange]] = {}
        """By slot, of those that sampled when the weights changed."""

    @property
    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._queue or self._running)

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._queue.append(request)

    def cancel(self, request: Request) -> None:
        """Drop a request, if it is not finished, and free its slot."""
        for slot, running in self._running.items():
            if running is request:
                self._leave(slot)
                return
        for index, queued in enumerate(self._queue):
            if queued is request:
                del self._queue[index]
                return

    def release(self, episode: EpisodeKey) -> None:
        """Free what idles in the cache for an episode."""
        self._table.release(episode)

    def change_weights(self, *, policy_version: int) -> None:
        """Go on with the other weights that the model has now.

        All keys and values are forgotten; those of requests that run are computed anew before
        their next token is sampled.
        """
        self._table.clear()
        self._policy_version = policy_version
        self._decoding = np.zeros(0, np.int64)
        self._prefilling = dict.fromkeys(self._running)
        for slot in self._running:
            sampled = int(self._lengths[slot] - self._prompt_lengths[slot])
            if sampled == 0:
                self._first_versions[slot] = policy_version
            else:
                change = VersionChange(position=sampled, version=policy_version)
                changes = self._version_changes.setdefault(slot, [])
                # Weights under which it sampled nothing leave no trace.
                if changes and changes[-1].position == sampled:
                    changes.pop()
                changes.append(change)

    @torch.inference_mode()
    def step(self) -> list[tuple[Request, Completion]]:
        """Run one forward pass and return the requests that it finished."""
        self._admit()
        rows = self._next_rows()
        logits = self._forward(rows)
        slots = rows.slots[rows.sampling]
        if len(slots) == 0:
            return []
        self._sample(slots, logits[: len(slots)])
        self._decoding = slots
        lengths = self._lengths[slots]
        stopped = self._is_stop[self._table.token_ids[slots, lengths - 1]]
        finished = slots[stopped | (lengths == self._limits[slots])]
        return [self._finish(int(slot)) for slot in finished]

    def _admit(self) -> None:
        """Place queued requests in slots, as long as there is prefill for this step to do."""
        backlog = sum(
            int(self._lengths[slot] - self._table.cached[slot]) for slot in self._prefilling
        )
        waiting: deque[Request] = deque()
        while self._queue and backlog < self._prefill_tokens:
            request = self._queue.popleft()
            if request.wait is not None and not self._table.is_over(request.wait):
                waiting.append(request)
                continue
            placement = self._table.place(request.session, request.prompt_ids)
            if placement is None:
                self._queue.appendleft(request)
                break
            if isinstance(placement, Wait):
                request.wait = placement
                waiting.append(request)
                continue
            if placement.source != placement.slot:
                self._cache.copy_prefix(
                    source=placement.source, target=placement.slot, length=placement.reused
                )
            self._start(request, placement.slot)
            backlog += len(request.prompt_ids) - placement.reused
        self._queue.extendleft(reversed(waiting))

    def _start(self, request: Request, slot: int) -> None:
        length = len(request.prompt_ids)
        self._running[slot] = request
        self._prefilling[slot] = None
        self._seeds[slot] = draw_seed(request.key)
        self._temperatures[slot] = request.params.temperature
        self._prompt_lengths[slot] = length
        self._lengths[slot] = length
        self._first_versions[slot] = self._policy_version
        self._limits[slot] = min(length + request.params.max_tokens, self._context_length)

    def _next_rows(self) -> _Rows:
        """Lay out the tokens of the next forward pass: decoding slots by key count, then prompts.

        It also moves ``cached`` past those tokens, since the pass will store their keys.
        """
        table = self._table
        slots = self._decoding
        positions = table.cached[slots]
        keys = self._padded_keys[positions]
        order = np.lexsort((slots, keys))
        slots, positions, keys = slots[order], positions[order], keys[order]
        table.cached[slots] += 1
        cuts = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)] if len(keys) else [0]
        tiles = [
            self._tile(start, slots[start:stop], positions[start:stop, None])
            for start, stop in itertools.pairwise(cuts)
        ]
        all_slots, all_positions = [slots], [positions]
        sampling = list(range(len(slots)))
        total, budget = len(slots), self._prefill_tokens
        for slot in list(self._prefilling):
            first = int(table.cached[slot])
            last = min(first + budget, int(self._lengths[slot]))
            budget -= last - first
            table.cached[slot] = last
            all_slots.append(np.full(last - first, slot))
            all_positions.append(np.arange(first, last))
            while first < last:
                stop = min(last, int(self._padded_keys[first]))
                tiles.append(self._tile(total, np.array([slot]), np.arange(first, stop)[None]))
                total += stop - first
                first = stop
            if last == self._lengths[slot]:
                del self._prefilling[slot]
                sampling.append(total - 1)
            if budget == 0:
                break
        return _Rows(
            slots=np.concatenate(all_slots),
            positions=np.concatenate(all_positions),
            sampling=np.array(sampling, np.int64),
            tiles=tiles,
        )

    def _tile(self, start: int, slots: NDArray[np.int64], positions: NDArray[np.int64]) -> Tile:
        """A tile of ascending slots [n], with positions [n, T]."""
        first, last = int(slots[0]), int(slots[-1])
        consecutive = last - first + 1 == len(slots)
        return Tile(
            start=start,
            slots=slice(first, last + 1) if consecutive else self._tensor(slots),
            positions=self._tensor(positions),
            keys=int(self._padded_keys[positions[0, -1]]),
        )

    def _forward(self, rows: _Rows) -> torch.Tensor:
        """Logits [R and padding, V] of the rows to sample after."""
        padding = rows_missing(len(rows.slots))
        slots = _extended(rows.slots, padding, self._cache.spare_slot)
        positions = _extended(rows.positions, padding, 0)
        token_ids = self._table.token_ids[rows.slots, rows.positions]
        keep = _extended(rows.sampling, rows_missing(len(rows.sampling)), 0)
        output = self._model(
            input_ids=self._tensor(_extended(token_ids, padding, self._pad_token_id))[None],
            position_ids=self._tensor(positions)[None],
            use_cache=False,
            logits_to_keep=self._tensor(keep),
            attention_plan=AttentionPlan(
                cache=self._cache,
                write_index=self._tensor(slots * self._cache.capacity + positions),
                tiles=rows.tiles,
            ),
        )
        logits: torch.Tensor = output.logits[0]
        return logits

    def _sample(self, slots: NDArray[np.int64], logits: torch.Tensor) -> None:
        """Append one token to each slot's sequence."""
        lengths = self._lengths[slots]
        draws = uniforms(self._seeds[slots], lengths - self._prompt_lengths[slots])
        tokens, logprobs = sample_tokens(
            logits,
            temperatures=self._tensor(self._temperatures[slots]),
            uniforms=self._tensor(draws),
        )
        sampled_logprobs = logprobs.cpu().numpy()
        if not np.isfinite(sampled_logprobs).all():
            raise NonFiniteLogitsError(
                "logits must be finite to sample from, but the model returned NaN or infinity; "
                "look at the last update's loss and gradient norm, or load other weights"
            )
        self._table.token_ids[slots, lengths] = tokens.cpu().numpy()
        self._logprobs[slots, lengths] = sampled_logprobs
        self._lengths[slots] = lengths + 1

    def _finish(self, slot: int) -> tuple[Request, Completion]:
        sampled = slice(self._prompt_lengths[slot], self._lengths[slot])
        token_ids = self._table.token_ids[slot, sampled]
        stopped = self._is_stop[token_ids[-1]]
        completion = Completion(
            token_ids=tuple(token_ids.tolist()),
            logprobs=tuple(self._logprobs[slot, sampled].tolist()),
            finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            policy_version=int(self._first_versions[slot]),
            version_changes=tuple(self._version_changes.get(slot, ())),
        )
        return self._leave(slot), completion

    def _leave(self, slot: int) -> Request:
        request = self._running.pop(slot)
        self._prefilling.pop(slot, None)
        self._version_changes.pop(slot, None)
        self._decoding = self._decoding[self._decoding != slot]
        self._table.leave(slot, request.session)
        return request

    def _tensor(self, array: NDArray[np.int64] | NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def _extended(array: NDArray[np.int64], count: int, value: int) -> NDArray[np.int64]:
    """The array and ``count`` times the value; np.pad takes ten times as long."""
    return np.concatenate((array, np.full(count, value, np.int64)))

"""Keys and values of many sequences at once, and the attention that reads them.

A Hugging Face causal LM runs here over one flat row of N tokens that belong to many sequences:
``input_ids`` [1, N], each token with its own position. All its layers but attention work token by
token; attention is replaced, through the extension point that transformers has for it, by
``slot_attention``. That writes the N new keys and values into slots of fixed capacity and lets each
token attend to its own slot.

A token's result is a function of its own sequence alone, bit for bit (on CPU in float32 with one
thread), because no number in its computation depends on what else is in the forward pass:

- matrix products have numbers of rows among which neither the number nor a row's place changes how
  it is summed up (``row_blocks``). Attention cuts its queries into blocks of 32 or more, so a
  remainder would meet other kernels too: it is filled up, or attention is called with fewer;
- a token at position p attends to ``padded_keys(p)`` keys, those after p masked. This length alone
  decides how the sum over keys is split into blocks.

Hence prefill and decode, a cached prefix and a recomputed one, all agree to the last bit.

Letters: N tokens of a forward pass, H query heads, K key heads, D head dimension, S slots,
C capacity of a slot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from transformers import AttentionInterface

from astuner_rl.samplers.row_blocks import QueryRows, attention, rows_missing

ATTENTION_NAME = "astuner_slots"
"""What ``slot_attention`` is called in ``config._attn_implementation``."""


def padded_keys(position: int, capacity: int) -> int:
    """Number of keys that a token at ``position`` attends to, masked ones included.

    It is the smallest of 64, 128, 192, 256, 384, 512, 768, 1024, … (powers of two and one and a
    half times them) that covers the position, and ``capacity`` at most.

    >>> [padded_keys(p, 1000) for p in (0, 63, 64, 200, 256, 900)]
    [64, 64, 128, 256, 384, 1000]
    """
    power = 64
    while power <= position:
        power *= 2
    three_quarters = power * 3 // 4
    keys = three_quarters if position < three_quarters and power > 128 else power
    return min(keys, capacity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Tokens of a forward pass that attend to equally many keys: T of them from each of n slots."""

    start: int
    """Index of the first of its n * T tokens in the flat row; they are ordered by slot."""
    slots: slice | torch.Tensor
    """[n] int64; a slice if they are consecutive, whose keys need not be gathered."""
    positions: torch.Tensor
    """[n, T] int64."""
    keys: int
    """Keys attended to, masked ones included."""

    @property
    def stop(self) -> int:
        """Index after its last token in the flat row."""
        return self.start + self.positions.numel()


class SlotCache:
    """Keys and values of S sequences of at most C tokens, and a spare slot for padding tokens."""

    def __init__(
        self,
        *,
        layers: int,
        slots: int,
        capacity: int,
        kv_heads: int,
        head_dim: int,
        query_rows: QueryRows,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (slots + 1, capacity, kv_heads, head_dim)
        self.query_rows = query_rows
        self.capacity = capacity
        self.spare_slot = slots
        self.keys = [_lazy_zeros(shape, dtype, device) for _ in range(layers)]
        """One [S + 1, C, K, D] a layer."""
        self.values = [_lazy_zeros(shape, dtype, device) for _ in range(layers)]
        self._gathered_keys = torch.empty(0, dtype=dtype, device=device)
        self._gathered_values = torch.empty(0, dtype=dtype, device=device)

    def read(self, layer: int, tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [n, K, keys, D] of a tile; valid until the next call."""
        keys, values = self.keys[layer][:, : tile.keys], self.values[layer][:, : tile.keys]
        if isinstance(tile.slots, slice):
            return keys[tile.slots].transpose(1, 2), values[tile.slots].transpose(1, 2)
        shape = (len(tile.slots), *keys.shape[1:])
        # Written to the same memory every time: to allocate it anew would cost more than the copy.
        if math.prod(shape) > self._gathered_keys.numel():
            self._gathered_keys = keys.new_empty(math.prod(shape))
            self._gathered_values = keys.new_empty(math.prod(shape))
        out_keys = self._gathered_keys[: math.prod(shape)].view(shape)
        out_values = self._gathered_values[: math.prod(shape)].view(shape)
        torch.index_select(keys, 0, tile.slots, out=out_keys)
        torch.index_select(values, 0, tile.slots, out=out_values)
        return out_keys.transpose(1, 2), out_values.transpose(1, 2)

    def copy_prefix(self, *, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` positions of one slot to another."""
        for tensors in (self.keys, self.values):
            for tensor in tensors:
                tensor[target, :length] = tensor[source, :length]


def key_counts(capacity: int) -> list[int]:
    """All numbers of keys that tokens attend to, ascending."""
    return sorted({padded_keys(position, capacity) for position in range(0, capacity, 64)})


def _lazy_zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    # Zeros, since a masked key still enters a product, where a stray NaN would spread. From numpy,
    # since it asks the system for zero pages, which take no memory before they are written.
    if device.type == "cpu" and dtype == torch.float32:
        return torch.from_numpy(np.zeros(shape, np.float32))
    return torch.zeros(shape, dtype=dtype, device=device)


@dataclass(slots=True, kw_only=True)
class AttentionPlan:
    """Which slot and position every token of one forward pass has."""

    cache: SlotCache
    write_index: torch.Tensor
    """[N] int64: slot * C + position."""
    tiles: list[Tile]
    """Cover the first tokens of the row; those after the last tile are padding."""
    _masks: dict[tuple[int, int, int | None], torch.Tensor] = field(default_factory=dict)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scaling: float,
        window: int | None,
    ) -> torch.Tensor:
        """Store keys and values [1, K, N, D] and attend with queries [1, H, N, D] -> [1, N, H, D].

        ``window`` is the number of latest positions that are seen; None sees all.
        """
        _, heads, tokens, dim = query.shape
        kv_heads = key.shape[1]
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        keys.view(-1, kv_heads, dim).index_copy_(0, self.write_index, key[0].transpose(0, 1))
        values.view(-1, kv_heads, dim).index_copy_(0, self.write_index, value[0].transpose(0, 1))
        # The query heads of one key head become further queries of it, so that keys and values
        # are never repeated for them.
        grouped = query[0].transpose(0, 1).reshape(tokens, kv_heads, heads // kv_heads, dim)
        output = query.new_zeros(tokens, kv_heads, heads // kv_heads, dim)
        for index, tile in enumerate(self.tiles):
            output[tile.start : tile.stop] = _attend_tile(
                grouped[tile.start : tile.stop],
                *self.cache.read(layer, tile),
                self._mask(index, heads // kv_heads, window, self.cache.query_rows.multiple),
                scaling=scaling,
                query_rows=self.cache.query_rows,
            )
        return output.view(1, tokens, heads, dim)

    def _mask(self, index: int, group: int, window: int | None, multiple: int) -> torch.Tensor:
        """[n, 1, T * group and padding, keys]: 0 where a key is seen, -inf elsewhere."""
        mask = self._masks.get((index, group, window))
        if mask is None:
            tile = self.tiles[index]
            positions = tile.positions[:, :, None]
            key_positions = torch.arange(tile.keys, device=positions.device)
            seen = key_positions <= positions
            if window is not None:
                seen &= key_positions > positions - window
            bias = torch.zeros(seen.shape, dtype=self.cache.keys[0].dtype, device=seen.device)
            bias.masked_fill_(~seen, float("-inf"))
            slots, queries, _ = bias.shape
            rows = queries * group
            if queries == 1:
                whole = rows + rows_missing(rows, multiple)
                mask = bias[:, None].expand(slots, 1, whole, tile.keys)
            else:
                mask = bias.repeat_interleave(group, dim=1)[:, None]
                mask = torch.nn.functional.pad(mask, (0, 0, 0, rows_missing(rows, multiple)))
            self._masks[index, group, window] = mask
        return mask


def _attend_tile(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    scaling: float,
    query_rows: QueryRows,
) -> torch.Tensor:
    """Attention of one tile: query [n * T, K, G, D], key and value [n, K, keys, D] -> as query."""
    total, kv_heads, group, dim = query.shape
    slots = key.shape[0]
    queries = total // slots
    rows = queries * group
    query = query.view(slots, queries, kv_heads, group, dim).transpose(1, 2)
    query = query.reshape(slots, kv_heads, rows, dim)
    missing = rows_missing(rows, query_rows.multiple)
    if missing:
        query = torch.nn.functional.pad(query, (0, 0, 0, missing))
    output = attention(query, key, value, mask, scaling=scaling, block=query_rows.block)
    output = output[:, :, :rows].reshape(slots, kv_heads, queries, group, dim).transpose(1, 2)
    return output.reshape(total, kv_heads, group, dim)


class _AttentionLayer(Protocol):
    """What ``slot_attention`` needs of the module that calls it."""

    layer_idx: int


def slot_attention(
    module: _AttentionLayer,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float,
    attention_plan: AttentionPlan,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    position_ids: torch.Tensor | None = None,
    use_cache: bool = False,
) -> tuple[torch.Tensor, None]:
    """The attention function that transformers calls in every layer.

    The parameters are named as transformers passes them. There is no catch-all on purpose: a model
    whose attention needs more than these (soft caps, sinks) fails instead of being misread.
    """
    output = attention_plan.attend(
        module.layer_idx, query, key, value, scaling=scaling, window=sliding_window
    )
    return output, None


AttentionInterface.register(ATTENTION_NAME, slot_attention)

"""Attention over slots, beside a plain computation of the same."""

from __future__ import annotations

import pytest
import torch

from astuner_rl.samplers.kv_cache import (
    AttentionPlan,
    SlotCache,
    Tile,
    key_counts,
    padded_keys,
)
from astuner_rl.samplers.row_blocks import QueryRows

HEADS, KV_HEADS, DIM = 4, 2, 8
QUERY_ROWS = [QueryRows(multiple=4), QueryRows(multiple=16, block=16)]


@pytest.mark.parametrize(
    ("position", "keys"),
    [(0, 64), (63, 64), (64, 128), (127, 128), (128, 192), (200, 256), (256, 384), (900, 1000)],
)
def test_keys_attended_to_are_a_function_of_the_position(position: int, keys: int) -> None:
    assert padded_keys(position, 1000) == keys


def test_all_numbers_of_keys_are_named() -> None:
    assert key_counts(64) == [64]
    assert key_counts(448) == sorted({padded_keys(position, 448) for position in range(448)})


def new_cache(query_rows: QueryRows) -> SlotCache:
    return SlotCache(
        layers=1,
        slots=5,
        capacity=64,
        kv_heads=KV_HEADS,
        head_dim=DIM,
        query_rows=query_rows,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def dense(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int | None
) -> torch.Tensor:
    """Causal attention of one sequence: query [H, T, D], key and value [K, T, D] -> [T, H, D]."""
    key = key.repeat_interleave(HEADS // KV_HEADS, 0)
    value = value.repeat_interleave(HEADS // KV_HEADS, 0)
    scores = query @ key.transpose(1, 2) * 0.5
    distance = torch.arange(query.shape[1])[:, None] - torch.arange(query.shape[1])
    hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    scores = scores.masked_fill(hidden, float("-inf"))
    return (scores.softmax(-1) @ value).transpose(0, 1)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("slots", [[0, 1], [1, 4]], ids=["consecutive", "scattered"])
@pytest.mark.parametrize("query_rows", QUERY_ROWS, ids=["at once", "in blocks"])
def test_prefill_then_decode_equals_dense_attention(
    slots: list[int], window: int | None, query_rows: QueryRows
) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [7, 3]
    tensors = [
        [torch.randn(heads, length + 1, DIM, generator=generator) for length in lengths]
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]
    expected = [dense(*(tensor[i] for tensor in tensors), window) for i in range(2)]
    cache = new_cache(query_rows)

    # All tokens but the last, one tile a sequence, and two padding tokens.
    plan = AttentionPlan(
        cache=cache,
        write_index=torch.tensor(
            [slots[0] * 64 + p for p in range(7)]
            + [slots[1] * 64 + p for p in range(3)]
            + [cache.spare_slot * 64] * 2
        ),
        tiles=[
            Tile(
                start=0,
                slots=slice(slots[0], slots[0] + 1),
                positions=torch.arange(7)[None],
                keys=64,
            ),
            Tile(start=7, slots=torch.tensor(slots[1:]), positions=torch.arange(3)[None], keys=64),
        ],
    )
    rows = [
        torch.cat([a[:, :7], b[:, :3], torch.zeros(len(a), 2, DIM)], 1)[None] for a, b in tensors
    ]
    output = plan.attend(0, *rows, scaling=0.5, window=window)
    torch.testing.assert_close(output[0, :7], expected[0][:7])
    torch.testing.assert_close(output[0, 7:10], expected[1][:3])

    # The last token of each, in one tile.
    consecutive = slots == [0, 1]
    plan = AttentionPlan(
        cache=cache,
        write_index=torch.tensor([slots[0] * 64 + 7, slots[1] * 64 + 3]),
        tiles=[
            Tile(
                start=0,
                slots=slice(0, 2) if consecutive else torch.tensor(slots),
                positions=torch.tensor([[7], [3]]),
                keys=64,
            )
        ],
    )
    rows = [torch.cat([a[:, 7:], b[:, 3:]], 1)[None] for a, b in tensors]
    output = plan.attend(0, *rows, scaling=0.5, window=window)
    torch.testing.assert_close(output[0], torch.stack([expected[0][7], expected[1][3]]))


def test_a_copied_prefix_is_what_was_stored() -> None:
    cache = new_cache(QUERY_ROWS[0])
    cache.keys[0][1] = 1.0
    cache.values[0][1] = 2.0
    cache.copy_prefix(source=1, target=3, length=2)
    assert cache.keys[0][3, :, 0, 0].tolist() == [1.0, 1.0] + [0.0] * 62
    assert cache.values[0][3, :, 0, 0].tolist() == [2.0, 2.0] + [0.0] * 62

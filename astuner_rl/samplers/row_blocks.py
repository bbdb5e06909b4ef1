"""Matrix products in which a row comes out the same, whatever rows are beside it.

A library has several kernels for a product and chooses among them by the number of rows, and
within one product for the rows that are left over. They sum up in other orders, so that last bits
differ. Which numbers of rows are safe depends on the processor:

- with AVX-512 every multiple of 16, and for sums of up to 64 numbers every multiple of 4;
- with Intel's AVX2 16 and 48: of 32 rows the last two are summed otherwise, as a kernel takes six
  rows, and 64 rows and more have a kernel of their own.

So a sampler looks, when it is made, at what its processor does with products of its model's shapes
(``alike``), and cuts them into blocks of rows where the whole would not do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

ROWS = 16
"""Every matrix product of a layer has a multiple of so many rows."""

_WAYS_TO_CUT = ((3 * ROWS, ROWS), (ROWS,))
"""Rows of the blocks into which a product of a layer is cut, by how fast that is."""
_COUNTS = (16, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768)
"""Of rows that are looked at."""
_LARGE, _MOST_OF_LARGE = 2**24, 128
"""Of layers with more weights only counts up to this are looked at; the others take seconds."""


def rows_missing(rows: int, multiple: int = ROWS) -> int:
    """How many rows must be added for a multiple, and at least one of it."""
    return -rows % multiple if rows else multiple


def cut(rows: int, blocks: Sequence[int]) -> list[slice]:
    """Cut rows into blocks, the larger ones first; the last block's size must divide the rows.

    >>> cut(112, (48, 16))
    [slice(0, 48, None), slice(48, 96, None), slice(96, 112, None)]
    """
    slices = []
    start = 0
    for size in blocks:
        while rows - start >= size:
            slices.append(slice(start, start + size))
            start += size
    return slices


def alike(product: Callable[[int], torch.Tensor], counts: Iterable[int]) -> bool:
    """Whether equal rows give equal results, wherever they are and how many there are.

    Args:
        product: Takes a number of rows M and returns the results [..., M, N] of M equal rows.
        counts: Of rows, to look at.
    """
    first, *others = (product(count) for count in counts)
    expected = first[..., :1, :]
    return all(bool((result == expected).all()) for result in (first, *others))


class BlockLinear(torch.nn.Linear):
    """A linear layer that is computed in blocks of rows; it shares another one's parameters."""

    def __init__(self, layer: torch.nn.Linear, *, blocks: Sequence[int]) -> None:
        biased = layer.bias is not None
        super().__init__(layer.in_features, layer.out_features, bias=biased, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self._blocks = blocks

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., M, I] -> [..., M, O]; M is a multiple of ``ROWS``."""
        results = [
            linear(input[..., rows, :], self.weight, self.bias)
            for rows in cut(input.shape[-2], self._blocks)
        ]
        return _joined(results)


def cut_products(model: torch.nn.Module) -> bool:
    """Replace the linear layers of a model that must be cut; whether rows come out alike then.

    To be called with one intra-op thread, as the layers are.
    """
    layers = {
        name: layer for name, layer in model.named_modules() if type(layer) is torch.nn.Linear
    }
    ways: dict[tuple[torch.Size, bool], Sequence[int] | None] = {}
    """By shape of the weight, and whether there is a bias."""
    for name, layer in layers.items():
        shape = (layer.weight.shape, layer.bias is not None)
        if shape not in ways:
            ways[shape] = _way_to_cut(layer)
        blocks = ways[shape]
        if blocks:
            model.set_submodule(name, BlockLinear(layer, blocks=blocks))
    return None not in ways.values()


def _way_to_cut(layer: torch.nn.Linear) -> Sequence[int] | None:
    """Blocks of rows; none if the whole comes out alike, None if nothing does."""
    if _alike(layer):
        return ()
    ways = (way for way in _WAYS_TO_CUT if _alike(BlockLinear(layer, blocks=way)))
    return next(ways, None)


def _alike(layer: torch.nn.Linear) -> bool:
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(1, layer.in_features, generator=generator)
    most = _MOST_OF_LARGE if layer.weight.numel() > _LARGE else max(_COUNTS)
    return alike(
        lambda rows: layer(row.repeat(rows, 1)), [count for count in _COUNTS if count <= most]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRows:
    """How many rows of queries attention computes."""

    multiple: int
    """They are filled up to a multiple of so many."""
    block: int | None = None
    """So many are computed at a time; None for all at once."""


def usual_query_rows(head_dim: int) -> QueryRows:
    """All at once; short heads need to be filled up less."""
    return QueryRows(multiple=4 if head_dim <= 64 else ROWS)


def find_query_rows(head_dim: int, keys: Sequence[int]) -> QueryRows | None:
    """The fastest way in which rows come out alike here with each number of keys; None if none.

    To be called with one intra-op thread, as attention is.
    """
    for rows in (usual_query_rows(head_dim), QueryRows(multiple=ROWS, block=ROWS)):
        if all(_attention_alike(rows, head_dim, length) for length in keys):
            return rows
    return None


def _attention_alike(rows: QueryRows, head_dim: int, keys: int) -> bool:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, head_dim, generator=generator)
    key, value = torch.randn(2, 1, 1, keys, head_dim, generator=generator)
    mask = torch.zeros(1, keys)
    mask[0, keys * 3 // 4 :] = float("-inf")

    def product(count: int) -> torch.Tensor:
        return attention(
            query.repeat(count, 1)[None, None],
            key,
            value,
            mask.repeat(count, 1)[None, None],
            scaling=head_dim**-0.5,
            block=rows.block,
        )

    return alike(product, [rows.multiple, 2 * rows.multiple, 3 * rows.multiple, *_COUNTS])


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    scaling: float,
    block: int | None,
) -> torch.Tensor:
    """Attention of so many rows of queries at a time, None for all at once.

    Query [n, K, R, D], key and value [n, K, keys, D], mask [n, 1, R, keys] -> as query.
    """
    blocks = [slice(None)] if block is None else cut(query.shape[2], (block,))
    results = [
        scaled_dot_product_attention(
            query[:, :, rows], key, value, attn_mask=mask[:, :, rows], scale=scaling
        )
        for rows in blocks
    ]
    return _joined(results)


def _joined(results: list[torch.Tensor]) -> torch.Tensor:
    return results[0] if len(results) == 1 else torch.cat(results, dim=-2)

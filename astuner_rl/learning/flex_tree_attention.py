"""Attention over a packed forest on a GPU: FlexAttention, told block by block what to leave out.

FlexAttention (Dong et al. 2024, arXiv:2412.05496) computes blocks of ``BLOCK`` queries by ``BLOCK``
keys, and needs to know of each whether all of it is seen, nothing, or what a rule says token by
token. The rule of a forest (``layout.Branching``) makes that a comparison of the blocks' extremes:
key ``k`` of the pass is seen by the queries from ``k`` up to the end of its segment, so a block of
keys is seen by a block of queries

- in part, if some key begins before the queries end and some key ends after they begin,
- wholly, if the last key begins before them and the first of all ends comes after them.

A key from above is seen by the queries of all trees that begin deeper.

So the mask takes one bit for each pair of blocks: 58,000 tokens, a prompt of 32,768 with a group of
64, have 453 blocks of queries and as many of keys.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from astuner_rl.learning.layout import Branching, by_token, token_depths, tokens_above, trees

BLOCK = 128
"""Queries, and keys, of a block of FlexAttention."""


def block_mask(branching: Branching, *, window: int | None, device: torch.device) -> BlockMask:
    """Return what sees what: queries are the tokens of a pass, keys those above and its own.

    Args:
        branching: Of the pass.
        window: Number of latest positions in its context that a token sees; None sees all.
        device: Where attention is computed.
    """
    above = tokens_above(branching)
    tokens = branching[-1].stop
    query_depth = token_depths(branching)
    tops = trees(branching)
    top_depth = torch.tensor([top.depth for top in tops]).repeat_interleave(
        torch.tensor([top.end - top.start for top in tops])
    )
    key = torch.arange(above + tokens)
    # For keys from above: no query comes after this beginning and before this end.
    begin = torch.cat([torch.full((above,), tokens), torch.arange(tokens)])
    end = torch.cat(
        [torch.full((above,), 0), by_token(branching, [segment.end for segment in branching])]
    )
    key_depth = torch.cat([torch.arange(above), query_depth])

    query_first, query_last = _extremes(torch.arange(tokens))
    top_low, top_high = _extremes(top_depth)
    key_first, key_last = _extremes(key)
    begin_first, begin_last = _extremes(begin)
    end_first, end_last = _extremes(end)
    partly = (begin_first <= query_last[:, None]) & (end_last > query_first[:, None])
    partly |= key_first < top_high[:, None]
    wholly = (begin_last <= query_first[:, None]) & (end_first > query_last[:, None])
    wholly |= key_last < top_low[:, None]
    if window is not None:
        query_low, query_high = _extremes(query_depth)
        key_low, key_high = _extremes(key_depth)
        partly &= query_low[:, None] - key_high < window
        wholly &= query_high[:, None] - key_low < window
    # What is cut off by the end of the tokens is left to the rule.
    wholly &= _is_whole(tokens)[:, None] & _is_whole(above + tokens)
    begin, end, top_depth, query_depth, key_depth = (
        each.to(device) for each in (begin, end, top_depth, query_depth, key_depth)
    )

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = (begin[key] <= query) & (query < end[key]) | (key < top_depth[query])
        return seen if window is None else seen & (query_depth[query] - key_depth[key] < window)

    return BlockMask.from_kv_blocks(
        *_listed(partly & ~wholly, device),
        *_listed(wholly, device),
        BLOCK_SIZE=BLOCK,
        mask_mod=sees,
        seq_lengths=(tokens, above + tokens),
    )


def flex_tree_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: BlockMask, scale: float
) -> Tensor:
    """Return attention [1, H, T, D] of queries [1, H, T, D] to keys and values [1, K, S, D]."""
    attended: Tensor = _compiled()(
        query, key, value, block_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
    )
    return attended


@cache
def _compiled() -> Any:
    # Without compilation all products of queries and keys would be held at once; where torch would
    # give up compiling for so many shapes, it has to say so.
    return torch.compile(flex_attention, fullgraph=True)


def _extremes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest value of each block, [ceil(T / BLOCK)] each."""
    blocks = -(-len(values) // BLOCK)
    padded = torch.cat([values, values[-1:].expand(blocks * BLOCK - len(values))])
    low, high = padded.view(blocks, BLOCK).aminmax(dim=1)
    return low, high


def _is_whole(tokens: int) -> Tensor:
    """Return which blocks of so many tokens are full."""
    return torch.arange(BLOCK, BLOCK * (-(-tokens // BLOCK) + 1), BLOCK) <= tokens


def _listed(blocks: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return [1, 1, Q] how many blocks of keys each block of queries has, and [1, 1, Q, K] which:
    they come first.
    """
    which = blocks.int().argsort(dim=-1, descending=True, stable=True)
    count = blocks.sum(-1, dtype=torch.int32)
    return count[None, None].to(device), which[None, None].int().to(device)

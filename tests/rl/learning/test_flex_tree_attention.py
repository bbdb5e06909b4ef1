"""The block mask of a forest, by FlexAttention's own dense arithmetic, which needs no GPU."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import flex_attention as torch_flex
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from astuner_rl.learning import flex_tree_attention
from astuner_rl.learning.flex_tree_attention import block_mask
from astuner_rl.learning.forest_layout import forest_passes
from astuner_rl.learning.layout import (
    Branching,
    Row,
    Segment,
    by_token,
    token_depths,
    tokens_above,
    trees,
)
from astuner_rl.learning.tree_attention import TreeKeys, TreePlan, tree_attention

CPU = torch.device("cpu")
PROMPT_AND_REPLIES = (
    Segment(0, 300, 380, 0),
    Segment(300, 340, 340, 300),
    Segment(340, 380, 380, 300),
)


def seen(branching: Branching, *, window: int | None = None) -> Tensor:
    """[T, A + T] which keys each token of a pass sees, written out token by token."""
    above = tokens_above(branching)
    tokens = branching[-1].stop
    top_depths = [top.depth for top in trees(branching) for _ in range(top.start, top.end)]
    ends = by_token(branching, [segment.end for segment in branching])
    depth = token_depths(branching)
    seen = torch.zeros(tokens, above + tokens, dtype=torch.bool)
    for query in range(tokens):
        for key in range(-above, query + 1):
            key_depth = key + above if key < 0 else int(depth[key])
            near = window is None or int(depth[query]) - key_depth < window
            part = key + above < top_depths[query] if key < 0 else query < int(ends[key])
            seen[query, above + key] = near and part
    return seen


def blocks(mask: BlockMask, *, whole: bool) -> Tensor:
    """[Q, K] the blocks that are listed as seen in part or as a whole."""
    counts = mask.full_kv_num_blocks if whole else mask.kv_num_blocks
    which = mask.full_kv_indices if whole else mask.kv_indices
    assert counts is not None
    assert which is not None
    listed = torch.zeros(which.shape[2:], dtype=torch.bool)
    for row in range(which.shape[2]):
        listed[row, which[0, 0, row, : int(counts[0, 0, row])].long()] = True
    return listed


def test_the_blocks_of_a_prompt_with_two_replies():
    mask = block_mask(PROMPT_AND_REPLIES, window=None, device=CPU)
    assert blocks(mask, whole=True).int().tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert blocks(mask, whole=False).int().tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 1]]


def test_a_long_prompt_with_a_large_group_needs_no_large_mask():
    prompt, reply, group = 32_768, 400, 64
    stop = prompt + group * reply
    replies = [Segment(at, at + reply, at + reply, prompt) for at in range(prompt, stop, reply)]
    mask = block_mask((Segment(0, prompt, stop, 0), *replies), window=None, device=CPU)
    listed = (mask.kv_indices, mask.full_kv_indices)
    assert sum(which.numel() for which in listed if which is not None) <= 2 * 456 * 456


@st.composite
def branchings(draw: st.DrawFn) -> Branching:
    """Passes of random forests, some of which go on from others."""
    contexts = draw(st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=12), min_size=1))
    rows = [
        Row(token_ids=tuple(tokens), reads=(len(tokens) - 2,), slots=(slot,))
        for slot, tokens in enumerate(contexts)
    ]
    passes = forest_passes(rows, microbatch_tokens=draw(st.integers(1, 30)))
    branching = draw(st.sampled_from(passes)).branching
    assert branching is not None
    return branching


@settings(deadline=None, max_examples=60)
@given(branching=branchings(), window=st.sampled_from([None, 1, 3]), block=st.sampled_from([2, 4]))
def test_blocks_and_rule_say_what_is_seen(branching: Branching, window: int | None, block: int):
    with patch.object(flex_tree_attention, "BLOCK", block):
        mask = block_mask(branching, window=window, device=CPU)
    expected = seen(branching, window=window)
    tokens, keys = expected.shape
    whole, part = blocks(mask, whole=True), blocks(mask, whole=False)
    assert not (whole & part).any()
    for query in range(tokens):
        for key in range(keys):
            ruled = bool(mask.mask_mod(CPU, CPU, torch.tensor(query), torch.tensor(key)))
            assert ruled == expected[query, key]
            if whole[query // block, key // block]:
                assert expected[query, key]
            elif not part[query // block, key // block]:
                assert not expected[query, key]


@pytest.mark.parametrize("window", [None, 30])
def test_attention_and_gradients_are_those_on_a_cpu(window: int | None):
    """FlexAttention's arithmetic runs anywhere; that it refuses gradients on a CPU is lifted."""
    torch.manual_seed(0)
    above, branching = (
        50,
        tuple(
            Segment(each.start, each.stop, each.end, 50 + each.depth) for each in PROMPT_AND_REPLIES
        ),
    )
    query, key, value, above_key, above_value = tensors = [
        torch.randn(1, heads, tokens, 16, dtype=torch.float64, requires_grad=True)
        for heads, tokens in ((4, 380), (2, 380), (2, 380), (2, above), (2, above))
    ]
    ours, _ = tree_attention(
        torch.nn.Identity(),
        query,
        key,
        value,
        None,
        scaling=0.3,
        tree_plan=TreePlan(branching),
        tree_keys=TreeKeys([above_key, above_value]),
        sliding_window=window,
    )
    with (
        patch.object(torch_flex, "_validate_device"),
        patch.object(flex_tree_attention, "_compiled", lambda: flex_attention),
    ):
        flex = flex_tree_attention.flex_tree_attention(
            query,
            torch.cat([above_key, key], dim=2),
            torch.cat([above_value, value], dim=2),
            mask=TreePlan(branching).block_mask(window=window, device=CPU),
            scale=0.3,
        ).transpose(1, 2)
        assert torch.allclose(ours, flex, rtol=0, atol=1e-12)
        weight = torch.randn_like(ours)
        theirs = torch.autograd.grad((flex * weight).sum(), tensors)
    for one, other in zip(torch.autograd.grad((ours * weight).sum(), tensors), theirs, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)

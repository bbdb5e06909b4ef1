r"""Attention over a packed forest: every token sees its own context and nothing else.

A packed forest (``layout.Branching``) has its tokens depth first, so what sees the keys of a
segment ``[start, stop)`` are the segment itself, causally, and all of its descendants
``[stop, end)``, wholly. Of the keys that a pass is given from above, each of its trees sees those
that it goes on from. Hence the whole forest is attended to by a few plain calls, without a mask of
quadratic size. A query's parts are merged by their log-sum-exps:

    out = sum_i exp(lse_i - lse) out_i,    lse = log sum_i exp(lse_i)

as in flash decoding and ring attention (Liu et al. 2023, arXiv:2310.01889). The gradient of each
part is that of plain attention with the merged ``out`` and ``lse``, so backward makes the same
calls. Small neighbouring trees share one call with a mask of at most ``BLOCK`` by ``BLOCK``. A
sliding window needs masks in all calls: queries then come in stripes, with the keys that are near.
That is for a CPU; on a GPU one call of FlexAttention does it all (``flex_tree_attention``).

A model runs this through the extension point that transformers has for attention functions; its
other layers work token by token, with rotary positions by depth, and need no change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface

from astuner_rl.learning.flex_tree_attention import block_mask, flex_tree_attention
from astuner_rl.learning.layout import Branching, by_token, token_depths, tokens_above, trees

ATTENTION_NAME = "astuner_tree"
"""What ``tree_attention`` is called in ``config._attn_implementation``."""
BLOCK = 128
"""Tokens of the largest stretch that is attended to with a mask, unless there is a window."""
STRIPE = 512
"""Queries of the largest mask where there is one; its keys are those of a window and a stripe."""


@dataclass(frozen=True, slots=True)
class Part:
    """One call: queries ``first:stop`` to keys ``key_first:key_stop``, those from above included.

    Keys are numbered from the first one that the pass was given from above.
    """

    first: int
    stop: int
    key_first: int
    key_stop: int
    causal: bool
    """Each query sees the keys up to its own place; both are the same stretch."""
    masked: bool
    """Each query sees those of the keys that a mask tells."""


def parts_of(branching: Branching) -> list[Part]:
    """Return calls in which every token sees each token of its context exactly once.

    Those with keys from above come first, and from then on queries never go back.

    Example: a segment of 600 tokens above two of 20 gives a causal call of 600, a call of the 40
    tokens below to the 600 keys, and a masked call of the 40 tokens among themselves. If the two
    are a pass of their own, the second call has the 600 keys from above.
    """
    parts: list[Part] = []
    for depth, alike in groupby(trees(branching), key=lambda tree: tree.depth):
        tops = list(alike)
        if depth:
            parts.append(Part(tops[0].start, tops[-1].end, 0, depth, False, False))
    above = tokens_above(branching)
    index = 0
    while index < len(branching):
        segment = branching[index]
        keys = (above + segment.start, above + segment.stop)
        if segment.end - segment.start > BLOCK:
            parts.append(Part(segment.start, segment.stop, *keys, True, False))
            if segment.end > segment.stop:
                parts.append(Part(segment.stop, segment.end, *keys, False, False))
            index += 1
            continue
        first, stop = segment.start, segment.start
        # What follows a whole subtree is not below it, so whole subtrees may be neighbours here.
        while index < len(branching) and branching[index].end - first <= BLOCK:
            stop = branching[index].end
            while index < len(branching) and branching[index].start < stop:
                index += 1
        alone = stop == segment.stop
        parts.append(Part(first, stop, above + first, above + stop, alone, not alone))
    return parts


Keys = list[Tensor]
"""Keys and values [1, K, S, D] of some tokens: those of the first layer, of the second, …"""


class TreeKeys:
    """The keys and values that a pass is given from above, and those of its own tokens.

    Args:
        above: Empty if nothing is above.
    """

    # No dataclass: FSDP copies those that it finds among the arguments of a layer.

    def __init__(self, above: Keys) -> None:
        self.above = above
        self._own: Keys = []
        self._places: dict[torch.nn.Module, int] = {}

    def extended(self, layer: torch.nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Take note of a layer's own, [1, K, T, D], and return them behind those above them.

        Args:
            layer: Layers come in their order; one that comes again is computed for its gradient.
            key: Of the layer.
            value: Of the layer.
        """
        if layer not in self._places:
            self._places[layer] = len(self._places)
            self._own += [key, value]
        if not self.above:
            return key, value
        place = 2 * self._places[layer]
        above_key, above_value = self.above[place : place + 2]
        return torch.cat([above_key, key], dim=2), torch.cat([above_value, value], dim=2)

    def take_own(self) -> Keys:
        """Return the keys and values of the pass's own tokens, and let go of them.

        What is computed again for its gradient is held by those keys, and holds these.
        """
        own, self._own = self._own, []
        return own


class TreePlan:
    """How one pass is attended to, shared by all of its layers."""

    # Holds no keys: backward holds the plan, and keys hold backward, a cycle that nothing frees.

    def __init__(self, branching: Branching) -> None:
        self._branching = branching
        self._above = tokens_above(branching)
        self._depths = token_depths(branching)
        self._key_depths = torch.cat([torch.arange(self._above), self._depths])
        self._ends = by_token(branching, [segment.end for segment in branching])
        self._parts: dict[int | None, list[Part]] = {}
        self._masks: dict[tuple[Part, torch.dtype], Tensor] = {}
        self._block_masks: dict[int | None, BlockMask] = {}

    def parts(self, *, window: int | None) -> list[Part]:
        """Return the calls on a CPU, without what no query of a call is near enough to see."""
        if window not in self._parts:
            parts = parts_of(self._branching)
            if window is not None:
                parts = [near for part in parts for near in self._near(part, window)]
            self._parts[window] = parts
        return self._parts[window]

    def _near(self, part: Part, window: int) -> Iterator[Part]:
        """Yield a part in stripes of queries, each with the keys that one of them may see."""
        if part.masked:
            yield part
            return
        # The keys of such a part follow each other in every context that they are in.
        beginning = int(self._key_depths[part.key_first])
        for first in range(part.first, part.stop, STRIPE):
            stop = min(first + STRIPE, part.stop)
            depths = self._depths[first:stop]
            reach = int(depths.min()) - window + 1 - beginning
            key_first = part.key_first + max(reach, 0)
            key_stop = self._above + stop if part.causal else part.key_stop
            if key_first < key_stop:
                far = int(depths.max()) - int(self._key_depths[key_first]) >= window
                yield Part(first, stop, key_first, key_stop, False, part.causal or far)

    def mask(self, part: Part, *, window: int | None, like: Tensor) -> Tensor | None:
        """[1, 1, queries, keys] additive: 0 where a key is seen, -inf elsewhere; None for a part
        that is not masked.
        """
        if not part.masked:
            return None
        if window is not None:
            # Larger than without a window, so made anew for each layer instead of being kept.
            return self._new_mask(part, window=window, like=like)
        if (part, like.dtype) not in self._masks:
            self._masks[part, like.dtype] = self._new_mask(part, window=None, like=like)
        return self._masks[part, like.dtype]

    def _new_mask(self, part: Part, *, window: int | None, like: Tensor) -> Tensor:
        queries = torch.arange(part.first, part.stop)[:, None]
        keys = torch.arange(part.key_first, part.key_stop)
        own = keys - self._above
        seen = (own < 0) | ((own <= queries) & (queries < self._ends[own.clamp_min(0)]))
        if window is not None:
            seen &= self._depths[queries] - self._key_depths[keys] < window
        mask = torch.zeros(seen.shape, dtype=like.dtype).masked_fill_(~seen, -torch.inf)
        return mask[None, None].to(like.device)

    def block_mask(self, *, window: int | None, device: torch.device) -> BlockMask:
        """Return the mask of the whole pass on a GPU."""
        if window not in self._block_masks:
            self._block_masks[window] = block_mask(self._branching, window=window, device=device)
        return self._block_masks[window]


@dataclass(frozen=True, slots=True)
class _Layer:
    """What a layer's attention is, besides its tensors."""

    plan: TreePlan
    scale: float
    window: int | None


class _TreeAttention(torch.autograd.Function):
    """Attention over a packed forest, on a CPU: queries [1, H, T, D], keys and values
    [1, K, A + T, D], of which every H / K heads share one.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layer: _Layer) -> Tensor:
        own_key, own_value = key, value
        key, value = _repeated(key, like=query), _repeated(value, like=query)
        out = torch.empty_like(query)
        lse = query.new_empty(query.shape[:-1], dtype=_lse_type(query))
        filled = 0
        if layer.window is not None:
            # Some queries may see none of the keys of their first part.
            out.zero_()
            lse.fill_(-torch.inf)
            filled = query.shape[2]
        for part in layer.plan.parts(window=layer.window):
            mask = layer.plan.mask(part, window=layer.window, like=query)
            columns = slice(part.key_first, part.key_stop)
            part_out, part_lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[:, :, part.first : part.stop],
                key[:, :, columns],
                value[:, :, columns],
                0.0,
                part.causal,
                attn_mask=mask,
                scale=layer.scale,
            )
            if layer.window is not None and mask is not None:
                # A query that sees none of the keys has no part in them; the call returns 0.
                nothing = (mask == -torch.inf).all(-1)
                part_lse = part_lse.masked_fill(nothing, -torch.inf)
            # Queries come in order: those from ``filled`` on have their first part here.
            seam = min(max(filled, part.first), part.stop)
            _merge(out[:, :, part.first : seam], lse[:, :, part.first : seam], part_out, part_lse)
            out[:, :, seam : part.stop] = part_out[:, :, seam - part.first :]
            lse[:, :, seam : part.stop] = part_lse[:, :, seam - part.first :]
            filled = max(filled, part.stop)
        # Keys and values as they came: repeated again for backward they cost no memory meanwhile.
        ctx.save_for_backward(query, own_key, own_value, out, lse)
        ctx.layer = layer
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, own_key, own_value, out, lse = ctx.saved_tensors
        (grad_out,) = gradients
        key, value = _repeated(own_key, like=query), _repeated(own_value, like=query)
        grad_query = torch.zeros_like(query)
        grad_key = torch.zeros_like(key)
        grad_value = torch.zeros_like(value)
        layer: _Layer = ctx.layer
        for part in layer.plan.parts(window=layer.window):
            mask = layer.plan.mask(part, window=layer.window, like=query)
            rows = slice(part.first, part.stop)
            columns = slice(part.key_first, part.key_stop)
            of_query, of_key, of_value = (
                torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    grad_out[:, :, rows],
                    query[:, :, rows],
                    key[:, :, columns],
                    value[:, :, columns],
                    out[:, :, rows],
                    lse[:, :, rows],
                    0.0,
                    part.causal,
                    attn_mask=mask,
                    scale=layer.scale,
                )
            )
            grad_query[:, :, rows] += of_query
            grad_key[:, :, columns] += of_key
            grad_value[:, :, columns] += of_value
        return (
            grad_query,
            _summed(grad_key, like=own_key),
            _summed(grad_value, like=own_value),
            None,
        )


def _merge(out: Tensor, lse: Tensor, part_out: Tensor, part_lse: Tensor) -> None:
    """Merge a further part into ``out`` and ``lse``, in place; [1, H, R, D] and [1, H, R]."""
    rows = out.shape[2]
    if rows == 0:
        return
    further = part_lse[:, :, :rows]
    merged = torch.logaddexp(lse, further)
    # Of a query that has seen nothing yet both are -inf: its part is nothing, too.
    share = (further - merged).exp().nan_to_num_(0.0).unsqueeze(-1).to(out.dtype)
    out.lerp_(part_out[:, :, :rows], share)
    lse.copy_(merged)


def _repeated(heads: Tensor, *, like: Tensor) -> Tensor:
    """Return [1, H, S, D]: each of the heads [1, K, S, D] for all queries that share it."""
    sharing = like.shape[1] // heads.shape[1]
    return heads if sharing == 1 else heads.repeat_interleave(sharing, dim=1)


def _summed(gradient: Tensor, *, like: Tensor) -> Tensor:
    """Return the gradient of the heads that ``_repeated`` repeated."""
    _, heads, length, width = like.shape
    return gradient.view(1, heads, -1, length, width).sum(2)


def _lse_type(query: Tensor) -> torch.dtype:
    return torch.promote_types(query.dtype, torch.float32)


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    scaling: float,
    tree_plan: TreePlan,
    tree_keys: TreeKeys,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    position_ids: Tensor | None = None,
    use_cache: bool = False,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls in every layer.

    The parameters are named as transformers passes them. There is no catch-all on purpose: a model
    whose attention needs more than these (soft caps, sinks) fails instead of being misread.

    Args:
        module: The layer.
        query: [1, H, T, D].
        key: [1, K, T, D] with K a divisor of H.
        value: As ``key``.
        attention_mask: None; the plan knows what sees what.
        scaling: Factor of the products of queries and keys.
        tree_plan: Of this pass.
        tree_keys: Of this pass.
        sliding_window: Number of latest positions in its context that a token sees; None sees all.
        dropout: Not applied: a policy is trained without.
        position_ids: Not used; rotary positions are applied before.
        use_cache: Not used.

    Returns:
        [1, T, H, D], and no attention weights.
    """
    key, value = tree_keys.extended(module, key, value)
    attended: Tensor
    if query.device.type == "cpu":
        layer = _Layer(tree_plan, scaling, sliding_window)
        attended = _TreeAttention.apply(query, key, value, layer)  # type: ignore[no-untyped-call]
    else:
        mask = tree_plan.block_mask(window=sliding_window, device=query.device)
        attended = flex_tree_attention(query, key, value, mask=mask, scale=scaling)
    return attended.transpose(1, 2), None


AttentionInterface.register(ATTENTION_NAME, tree_attention)

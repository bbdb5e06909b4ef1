"""Runs the passes of a layout, each going on from the keys and values of those above it.

Worked example. A prompt P has replies A and B, and each is a pass of its own. Forward of P gives
its keys and values in every layer; A and B are computed with these as if P stood before them in
their row. Backward begins with A: besides the parameters' gradients it leaves what A wants of P's
keys and values. B adds to that, and backward of P then starts from it together with P's own loss:

    forward P, forward A, backward A, forward B, backward B, backward P

That is the gradient of one pass over all three, and P is computed once. Only P and one of its
replies are held in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from astuner_rl.learning.layout import Microbatch, tokens_above
from astuner_rl.learning.recomputation import recomputing
from astuner_rl.learning.tree_attention import ATTENTION_NAME, Keys, TreeKeys, TreePlan


@dataclass(slots=True)
class _Open:
    """A pass that others go on from."""

    own: Keys
    """Of its own tokens, with the graph that they were computed by."""
    handed_down: Keys
    """Of all tokens up to its last, as leaves in which the passes below add up their gradients."""
    loss: Tensor | None = None


class TreeRun:
    """The state of a run over the passes of one layout by one model, in their order.

    ``forward`` runs a pass, ``backward`` is given its loss, and ``finish`` comes after the last
    one. Without gradients ``forward`` alone is called.

    Args:
        recompute: Whether layers are computed again for their gradients, to save memory.
    """

    def __init__(self, *, recompute: bool = False) -> None:
        self._recompute = recompute
        self._open: list[_Open] = []
        self._carries = False

    def forward(self, model: nn.Module, microbatch: Microbatch) -> Any:
        """Run a pass through a Hugging Face model or its trunk, and return its output.

        A packed forest runs with ``tree_attention``, whatever attention the model has otherwise.

        Raises:
            RuntimeError: What the pass goes on from was not run before it.
        """
        self._close(to=microbatch.level)
        if len(self._open) != microbatch.level:
            raise RuntimeError(
                f"a pass of level {microbatch.level} goes on from as many passes, but the run has "
                f"{len(self._open)} of them; run all passes of a layout, in their order"
            )
        self._carries = microbatch.carries
        arguments: dict[str, Any] = {
            "input_ids": microbatch.input_ids,
            "position_ids": microbatch.position_ids,
            "use_cache": False,
        }
        if microbatch.branching is None:
            with self._recomputing(model, again=nullcontext):
                return model(**arguments)
        above = tokens_above(microbatch.branching)
        handed_down = self._open[-1].handed_down if self._open else []
        keys = TreeKeys([leaf[:, :, :above] for leaf in handed_down])
        plan = TreePlan(microbatch.branching)
        attention = partial(_tree_attention, model)
        with attention(), self._recomputing(model, again=attention):
            output = model(**arguments, tree_plan=plan, tree_keys=keys)
        own = keys.take_own()
        if microbatch.carries:
            self._open.append(_Open(own=own, handed_down=_handed_down(keys.above, own)))
        return output

    def _recomputing(
        self, model: nn.Module, *, again: Callable[[], AbstractContextManager[None]]
    ) -> AbstractContextManager[None]:
        return recomputing(model, again=again) if self._recompute else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of the latest pass's loss, now or once all below it have done so."""
        if self._carries:
            self._open[-1].loss = loss
        else:
            loss.backward()  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        """Add the gradients that are still to come."""
        self._close(to=0)

    def _close(self, *, to: int) -> None:
        """Go back to a level: the passes from there on have seen all that goes on from them."""
        while len(self._open) > to:
            closing = self._open.pop()
            if closing.loss is not None:
                self._backward(closing, closing.loss)

    def _backward(self, closing: _Open, loss: Tensor) -> None:
        """Add the gradient of a pass's own loss and of all that went on from it."""
        roots, gradients = [loss], [torch.ones_like(loss)]
        above = self._open[-1].handed_down if self._open else []
        for place, (own, leaf) in enumerate(zip(closing.own, closing.handed_down, strict=True)):
            if leaf.grad is None:
                continue  # what computes these keys is frozen
            first = leaf.shape[2] - own.shape[2]
            roots.append(own)
            gradients.append(leaf.grad[:, :, first:])
            if first:
                _add_gradient(above[place], leaf.grad[:, :, :first])
        torch.autograd.backward(roots, gradients)


def run_pass(model: nn.Module, microbatch: Microbatch, run: TreeRun | None) -> Any:
    """Run a pass as a part of ``run``, or by itself.

    Raises:
        RuntimeError: It is to run by itself, but others go on from it or it from others.
    """
    if run is None and microbatch.carries:
        raise RuntimeError(
            "a pass that others go on from must be run with them, or their gradient is lost; give "
            "the TreeRun of the layout"
        )
    return (run or TreeRun()).forward(model, microbatch)


def _handed_down(above: Keys, own: Keys) -> Keys:
    if above:
        whole = [torch.cat(pair, dim=2) for pair in zip(above, own, strict=True)]
    else:
        whole = [tensor.contiguous() for tensor in own]
    return [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in whole]


def _add_gradient(leaf: Tensor, gradient: Tensor) -> None:
    """Add the gradient of a leaf's first keys."""
    if leaf.grad is None:
        leaf.grad = torch.zeros_like(leaf)
    leaf.grad[:, :, : gradient.shape[2]] += gradient


@contextmanager
def _tree_attention(model: nn.Module) -> Iterator[None]:
    """Let the model attend by ``tree_attention`` for the time of a pass."""
    assert isinstance(model, PreTrainedModel)
    usual = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)

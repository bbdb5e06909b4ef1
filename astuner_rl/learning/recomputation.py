"""Gradient checkpointing: a layer keeps its input alone, and is computed again for its gradient.

That is sublinear memory (Chen et al. 2016, arXiv:1604.06174) for one more forward pass. Gradients
are the same, bit for bit where the forward pass is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from astuner_gym.errors import SettingError
from astuner_rl.learning.blocks import transformer_blocks


def require_blocks(model: PreTrainedModel) -> None:
    """Refuse a model that cannot be computed again layer by layer.

    Raises:
        SettingError: It does not say what its layers are.
    """
    if not transformer_blocks(model):
        raise SettingError(
            "algo.gradient_checkpointing=true needs a model that names its layers in "
            f"_no_split_modules, {type(model).__name__} names none; set "
            "algo.gradient_checkpointing=false and a smaller algo.microbatch_tokens"
        )


@contextmanager
def recomputing(
    module: nn.Module, *, again: Callable[[], AbstractContextManager[None]]
) -> Iterator[None]:
    """Let every layer of a forward pass inside be computed again in its backward pass.

    Args:
        module: Holds the layers.
        again: What surrounds the second computation of a layer.
    """
    blocks = transformer_blocks(module)
    for block in blocks:
        # On the object, where it hides the method of its class until it is deleted again.
        block.forward = partial(_checkpointed, block.forward, again)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _checkpointed(
    forward: Callable[..., Any],
    again: Callable[[], AbstractContextManager[None]],
    *arguments: Any,
    **named: Any,
) -> Any:
    return checkpoint(
        forward,
        *arguments,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing is drawn: dropout is off
        context_fn=lambda: (nullcontext(), again()),
        **named,
    )

"""The layers of a transformer, each a unit to be held, moved or computed again by itself."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def transformer_blocks(module: nn.Module) -> list[nn.Module]:
    """Return the layers that Hugging Face names as those to be kept in one piece.

    There are none in a model that names none.
    """
    names = {
        name
        for model in module.modules()
        if isinstance(model, PreTrainedModel)
        for name in model._no_split_modules or ()
    }
    return [block for block in module.modules() if type(block).__name__ in names]

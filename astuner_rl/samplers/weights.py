"""Copying a learner's weights into a sampler's model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from astuner_rl.errors import SamplerError
from astuner_rl.samplers.adapters import merged

if TYPE_CHECKING:
    from collections.abc import Mapping


@torch.no_grad()
def copy_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights, named as in ``model.state_dict()``, into the model in place.

    Of tensors that are tied (an output head that is the embedding) any one name is enough.

    Raises:
        SamplerError: Names or shapes do not fit; nothing was copied then.
    """
    own = model.state_dict()
    unknown = sorted(weights.keys() - own.keys())
    if unknown:
        raise SamplerError(
            f"weights must be named as in the sampler's model, got unknown {unknown[:3]}; "
            "load the learner and the sampler from the same model"
        )
    given = {own[name].data_ptr() for name in weights}
    missing = sorted(name for name, tensor in own.items() if tensor.data_ptr() not in given)
    if missing:
        raise SamplerError(
            f"weights must hold every tensor of the sampler's model, but lack {missing[:3]}; "
            "pass the whole state dict"
        )
    for name, tensor in weights.items():
        if tensor.shape != own[name].shape:
            raise SamplerError(
                f"weight {name} must have shape {tuple(own[name].shape)}, got "
                f"{tuple(tensor.shape)}; load the learner and the sampler from the same model"
            )
    for name, tensor in weights.items():
        own[name].copy_(tensor)


@torch.no_grad()
def copy_merged(
    model: torch.nn.Module,
    weights: Mapping[str, torch.Tensor],
    adapters: Mapping[str, torch.Tensor],
) -> None:
    """Copy weights, each merged with its adapter, into the model in place; see ``merged``."""
    own = model.state_dict()
    for name, weight in merged(weights, adapters):
        own[name].copy_(weight)

"""Low-rank updates of weights (LoRA), handed to a sampler in place of the weights they come to.

Weights ``W`` [out, in] become ``W + B A`` with ``A`` [rank, in] and ``B`` [out, rank]. Where ``W``
is named ``q_proj.weight``, ``A`` is ``q_proj.lora_A.weight`` and ``B`` is ``q_proj.lora_B.weight``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from astuner_rl.errors import SamplerError

A = ".lora_A.weight"
B = ".lora_B.weight"
_WEIGHT = ".weight"

Weights = Mapping[str, torch.Tensor]


def merge(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return ``weight + b @ a``, added up in float32 at least, and rounded once."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return (weight.to(dtype) + b.to(dtype) @ a.to(dtype)).to(weight.dtype)


def split(weights: Weights) -> tuple[Weights, Weights]:
    """Return whole weights and adapters apart."""
    adapters = {name: weight for name, weight in weights.items() if name.endswith((A, B))}
    return {name: weights[name] for name in weights if name not in adapters}, adapters


def adapted(adapters: Weights) -> list[str]:
    """Return the names of the weights that there are adapters for."""
    return [name.removesuffix(A) + _WEIGHT for name in adapters if name.endswith(A)]


def merged(weights: Weights, adapters: Weights) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield whole weights by name, each merged with its adapter when its turn comes."""
    for name, weight in weights.items():
        layer = name.removesuffix(_WEIGHT)
        if layer + A in adapters:
            yield name, merge(weight, adapters[layer + A], adapters[layer + B])
        else:
            yield name, weight


def check_adapters(adapters: Weights, shapes: Mapping[str, torch.Size]) -> None:
    """Refuse adapters that do not fit weights of these shapes.

    Raises:
        SamplerError: One has no partner, no weight, or another shape.
    """
    sizes = {name: tuple(adapter.shape) for name, adapter in adapters.items()}
    for name in adapters:
        layer = name.removesuffix(A).removesuffix(B)
        a, b, weight = sizes.get(layer + A), sizes.get(layer + B), shapes.get(layer + _WEIGHT)
        if a is None or b is None or weight is None or a[:1] != b[1:] or b[:1] + a[1:] != weight:
            raise SamplerError(
                f"adapters must be A [rank, in] and B [out, rank] of a weight [out, in], but "
                f"{layer} has A {a} and B {b} of {weight and tuple(weight)}; load the learner and "
                "the sampler from the same model"
            )


def require_base(*, known: bool) -> None:
    """Refuse adapters alone where nothing is known that they could be added to.

    Raises:
        SamplerError: Not ``known``.
    """
    if not known:
        raise SamplerError(
            "adapters must first come together with the whole weights that they are added to, got "
            "adapters alone; pass the learner's handover(whole=True)"
        )

"""Weights on their way through Ray's object store: written once, read by every sampler."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray import ObjectRef
from torch import Tensor

from astuner_rl.backbones.ray.answers import answers


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedTensor:
    """A tensor as bytes, which readers on a node map instead of copying."""

    data: NDArray[np.uint8]
    """[bytes]."""
    dtype: torch.dtype
    shape: tuple[int, ...]


PackedWeights: TypeAlias = Mapping[str, PackedTensor]


def pack(weights: Mapping[str, Tensor]) -> dict[str, PackedTensor]:
    """Return weights in the form that travels; on a CPU they are not copied, and what is tied is
    there once.
    """
    buffers: dict[tuple[int, int], NDArray[np.uint8]] = {}
    packed = {}
    for name, weight in weights.items():
        tensor = weight.detach()
        place = (tensor.data_ptr(), tensor.nbytes)
        if place not in buffers:
            buffers[place] = tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()
        packed[name] = PackedTensor(
            data=buffers[place], dtype=tensor.dtype, shape=tuple(tensor.shape)
        )
    return packed


def unpack(packed: PackedWeights) -> dict[str, Tensor]:
    """Return the tensors, to be read and never written: they lie in memory that others read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {
            name: torch.from_numpy(each.data).view(each.dtype).view(each.shape)
            for name, each in packed.items()
        }


class StoredWeights(Mapping[str, Tensor]):
    """Weights that lie in the object store and are fetched when somebody looks at them.

    Args:
        reference: To ``PackedWeights``.
        of: Whose weights they are, for messages.
    """

    def __init__(self, reference: ObjectRef[PackedWeights], *, of: str) -> None:
        self.reference = reference
        self._of = of

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        # Raises LostProcessError where whose they are died before they got here.
        packed: PackedWeights
        (packed,) = answers([self.reference], of=self._of)
        return unpack(packed)


def stored(weights: Mapping[str, Tensor]) -> ObjectRef[PackedWeights]:
    """Return where weights lie in the object store; they are put there unless they came from it."""
    if isinstance(weights, StoredWeights):
        return weights.reference
    return ray.put(pack(weights))

"""Copying weights into the sampler's model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from astuner_rl.errors import SamplerError
from astuner_rl.samplers.weights import copy_weights


class Tied(nn.Module):
    """Two names for one tensor, and one besides."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(2, 3))
        self.head = self.embedding
        self.scale = nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize("name", ["embedding", "head"])
def test_one_name_of_a_tied_tensor_is_enough(name: str) -> None:
    model = Tied()
    copy_weights(model, {name: torch.ones(2, 3), "scale": torch.full((3,), 2.0)})
    assert model.head.tolist() == model.embedding.tolist() == [[1.0] * 3] * 2
    assert model.scale.tolist() == [2.0] * 3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"head": torch.ones(2, 3)}, r"lack \['scale'\]"),
        (
            {"head": torch.ones(2, 3), "scale": torch.ones(3), "x": torch.ones(1)},
            r"unknown \['x'\]",
        ),
        ({"head": torch.ones(2, 3), "scale": torch.ones(4)}, r"scale must have shape \(3,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_copied(
    weights: dict[str, torch.Tensor], message: str
) -> None:
    model = Tied()
    with pytest.raises(SamplerError, match=message):
        copy_weights(model, weights)
    assert model.head.tolist() == [[0.0] * 3] * 2

"""Rows of a product: whether they come out alike, and products cut so that they do."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from astuner_rl.samplers import row_blocks
from astuner_rl.samplers.row_blocks import (
    BlockLinear,
    QueryRows,
    alike,
    attention,
    cut,
    cut_products,
    find_query_rows,
    rows_missing,
    usual_query_rows,
)


def test_rows_are_filled_up_to_a_multiple() -> None:
    assert [rows_missing(rows) for rows in (0, 1, 15, 16, 17, 34)] == [16, 15, 1, 0, 15, 14]
    assert [rows_missing(rows, 4) for rows in (0, 1, 3, 4, 5, 34)] == [4, 3, 1, 0, 3, 2]


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(16, [16]), (32, [16, 16]), (48, [48]), (64, [48, 16]), (112, [48, 48, 16])],
)
def test_rows_are_cut_into_blocks(rows: int, sizes: list[int]) -> None:
    slices = cut(rows, (48, 16))
    assert [block.stop - block.start for block in slices] == sizes
    assert [row for block in slices for row in range(rows)[block]] == list(range(rows))


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        pytest.param({}, True, id="none"),
        pytest.param({32: 31}, False, id="one place"),
        pytest.param({64: slice(None)}, False, id="one number of rows"),
        pytest.param({16: 0}, False, id="the first row of all"),
    ],
)
def test_rows_are_alike_if_neither_place_nor_number_matters(
    odd: dict[int, int | slice], expected: bool
) -> None:
    def product(rows: int) -> torch.Tensor:
        result = torch.ones(rows, 3)
        if rows in odd:
            result[odd[rows], 1] = 1 + 2**-23  # the next number in float32
        return result

    assert alike(product, (16, 32, 64)) is expected


class Processor:
    """Computes a row otherwise that is the last of a product with too many rows.

    It computes each row by itself, so that they are alike on any machine.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, most_rows: int) -> None:
        self.products: list[int] = []
        """Rows of those of linear layers."""
        self._most_rows = most_rows
        self._linear, self._attention = functional.linear, functional.scaled_dot_product_attention
        monkeypatch.setattr(functional, "linear", self.linear)
        monkeypatch.setattr(row_blocks, "linear", self.linear)
        monkeypatch.setattr(row_blocks, "scaled_dot_product_attention", self.attention)

    def linear(
        self, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        self.products.append(len(rows))
        results = [self._linear(row, weight, bias) for row in rows.split(1)]
        return self._otherwise(torch.cat(results))

    def attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        attn_mask: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        results = [
            self._attention(row, key, value, attn_mask=seen, scale=scale)
            for row, seen in zip(query.split(1, dim=2), attn_mask.split(1, dim=2), strict=True)
        ]
        return self._otherwise(torch.cat(results, dim=2))

    def _otherwise(self, result: torch.Tensor) -> torch.Tensor:
        if result.shape[-2] > self._most_rows:
            result[..., -1, :] *= 1 + 2**-20
        return result


def new_model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = (torch.nn.Linear(24, 40), torch.nn.Linear(40, 24, bias=False), torch.nn.LayerNorm(24))
    return torch.nn.Sequential(*layers).requires_grad_(False)


@pytest.mark.parametrize(
    ("most_rows", "products", "exact"),
    [
        pytest.param(1000, [112], True, id="whole"),
        pytest.param(63, [48, 48, 16], True, id="blocks of 48"),
        pytest.param(31, [16] * 7, True, id="blocks of 16"),
        pytest.param(15, [112], False, id="no way"),
    ],
)
def test_a_model_is_cut_as_its_processor_needs_it(
    most_rows: int, products: list[int], exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = Processor(monkeypatch, most_rows=most_rows)
    model = new_model()
    assert cut_products(model) is exact
    processor.products.clear()
    model(torch.zeros(112, 24))
    assert processor.products == 2 * products


@pytest.mark.parametrize(
    ("most_rows", "expected"),
    [(1000, QueryRows(multiple=4)), (31, QueryRows(multiple=16, block=16)), (15, None)],
)
def test_attention_is_cut_as_its_processor_needs_it(
    most_rows: int, expected: QueryRows | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Processor(monkeypatch, most_rows=most_rows)
    assert find_query_rows(8, [64, 128]) == expected
    assert usual_query_rows(8).multiple == 4
    assert usual_query_rows(128).multiple == 16


def test_a_layer_in_blocks_has_the_parameters_of_the_whole_one_and_its_results() -> None:
    model = new_model()
    layer = model[0]
    assert isinstance(layer, torch.nn.Linear)
    names = list(model.state_dict())
    block = BlockLinear(layer, blocks=(48, 16))
    model.set_submodule("0", block)
    assert list(model.state_dict()) == names
    rows = torch.randn(1, 80, 24)
    torch.testing.assert_close(block(rows), layer(rows))
    layer.weight.zero_()
    torch.testing.assert_close(block(rows), layer.bias.expand(1, 80, 40))


def test_attention_in_blocks_is_that_of_all_queries_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 2, 48, 8, generator=generator)
    key, value = torch.randn(2, 3, 2, 64, 8, generator=generator)
    mask = torch.zeros(3, 1, 48, 64).masked_fill(
        torch.rand(3, 1, 48, 64, generator=generator) < 0.5, float("-inf")
    )
    whole = attention(query, key, value, mask, scaling=0.3, block=None)
    torch.testing.assert_close(attention(query, key, value, mask, scaling=0.3, block=16), whole)

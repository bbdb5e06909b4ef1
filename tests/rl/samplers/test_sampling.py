"""Sampling by inverse cumulative distribution."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_rl.samplers.sampling import sample_tokens


def sample(
    logits: list[list[float]], draws: list[float], temperatures: list[float]
) -> tuple[list[int], list[float]]:
    tokens, logprobs = sample_tokens(
        torch.tensor(logits),
        temperatures=torch.tensor(temperatures, dtype=torch.float64),
        uniforms=torch.tensor(draws, dtype=torch.float64),
    )
    return tokens.tolist(), logprobs.tolist()


def test_the_first_token_whose_cumulative_probability_exceeds_the_draw_is_taken() -> None:
    logits = [math.log(p) for p in (0.1, 0.2, 0.7)]
    tokens, logprobs = sample([logits] * 5, [0.05, 0.11, 0.29, 0.31, 0.99], [1.0] * 5)
    assert tokens == [0, 1, 1, 2, 2]
    for logprob, p in zip(logprobs, [0.1, 0.2, 0.2, 0.7, 0.7], strict=True):
        assert math.isclose(logprob, math.log(p), rel_tol=1e-6)


def test_logprobs_are_those_at_the_temperature_sampled_with() -> None:
    # Logits 0 and ln 3 have probabilities 1/4 and 3/4; at temperature 1/2 they are 1/10 and 9/10.
    tokens, logprobs = sample([[0.0, math.log(3)]] * 2, [0.2, 0.05], [0.5, 0.5])
    assert tokens == [1, 0]
    assert math.isclose(logprobs[0], math.log(0.9), rel_tol=1e-6)
    assert math.isclose(logprobs[1], math.log(0.1), rel_tol=1e-6)


def test_temperature_zero_takes_the_most_likely_token_with_logprob_zero() -> None:
    assert sample([[1.0, 3.0, 2.0]] * 2, [0.0, 0.999], [0.0, 0.0]) == ([1, 1], [0.0, 0.0])


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    almost_one = math.nextafter(1.0, 0.0)
    impossible = -math.inf
    logits = [[impossible, 0.0, 0.1, impossible, impossible]] * 2
    tokens, logprobs = sample(logits, [0.0, almost_one], [1.0, 1.0])
    assert tokens == [1, 2]
    assert all(math.isfinite(logprob) for logprob in logprobs)


def test_a_row_that_is_not_finite_shows_in_its_logprob_alone() -> None:
    logits = [[0.0, math.nan], [0.0, 0.0], [math.inf, 0.0], [math.nan, 0.0]]
    _, logprobs = sample(logits, [0.4] * 4, [1.0, 1.0, 1.0, 0.0])
    assert [math.isnan(logprob) for logprob in logprobs] == [True, False, True, True]


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 9),
    vocabulary=st.integers(1, 70),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_a_row_does_not_depend_on_the_rows_beside_it(
    rows: int, vocabulary: int, seed: int, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocabulary, generator=generator) * 4
    draws = torch.rand(rows, generator=generator, dtype=torch.float64)
    temperatures = torch.rand(rows, generator=generator, dtype=torch.float64) + 0.1
    tokens, logprobs = sample_tokens(logits, temperatures=temperatures, uniforms=draws)
    row = data.draw(st.integers(0, rows - 1))
    alone = sample_tokens(
        logits[row : row + 1],
        temperatures=temperatures[row : row + 1],
        uniforms=draws[row : row + 1],
    )
    assert (tokens[row], logprobs[row]) == (alone[0][0], alone[1][0])

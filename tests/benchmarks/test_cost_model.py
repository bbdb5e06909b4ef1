"""The cost model by numbers that can be checked in the head."""

from __future__ import annotations

import math

import pytest

from benchmarks.cost_model import LearnerCost, Line, Link, SamplerCost, transfer_s

NO_DELAY = Link(latency_s=0.0, bytes_per_s=math.inf)


def learner(*, optimizer_s: float = 0.0, size: float = 0.0, parts: int = 1) -> LearnerCost:
    return LearnerCost(
        preparation=Line(fixed_s=0.0, each_s=0.001),
        passes=Line(fixed_s=1.0, each_s=0.01),
        optimizer_s=optimizer_s,
        weight_bytes=size,
        gradient_bytes=size,
        parts=parts,
    )


def test_a_line_goes_through_points_that_lie_on_one() -> None:
    line = Line.through([(0, 2.0), (10, 7.0), (20, 12.0)])
    assert line.fixed_s == pytest.approx(2.0)
    assert line.each_s == pytest.approx(0.5)
    assert line.at(4) == pytest.approx(4.0)


def test_a_line_has_no_part_below_zero() -> None:
    steep = Line.through([(10, 1.0), (20, 4.0)])
    assert steep.fixed_s == 0.0
    # Errors relative to 1 and 4 are least, through the origin, at (10/1 + 20/4) / (100/1 + 400/16).
    assert steep.each_s == pytest.approx(15 / 125)
    falling = Line.through([(10, 2.0), (20, 1.0)])
    assert falling.each_s == 0.0
    assert 1.0 < falling.fixed_s < 2.0


def test_a_ring_has_a_hop_less_than_ranks_and_keeps_its_own_part() -> None:
    link = Link(latency_s=0.5, bytes_per_s=100.0)
    assert link.ring_s(1000, ranks=4, calls=3) == pytest.approx(3 * 3 * 0.5 + 750 / 100)


def test_one_rank_prepares_passes_and_steps_alone() -> None:
    terms = learner(optimizer_s=4.0, size=1e9).step(
        ranks=1, batch=1000, most_fed=1000, link=Link(latency_s=1.0, bytes_per_s=1.0)
    )
    assert terms.preparation_s == pytest.approx(1.0)
    assert terms.passes_s == pytest.approx(11.0)
    assert terms.optimizer_s == 4.0
    assert terms.collectives_s == 0.0
    assert terms.total_s == pytest.approx(16.0)


def test_two_ranks_divide_passes_and_optimizer_and_not_the_preparation() -> None:
    terms = learner(optimizer_s=4.0).step(ranks=2, batch=1000, most_fed=500, link=NO_DELAY)
    assert terms.preparation_s == pytest.approx(1.0)
    assert terms.passes_s == pytest.approx(6.0)
    assert terms.optimizer_s == 2.0


def test_imbalance_costs_what_the_busiest_rank_is_fed() -> None:
    even = learner().step(ranks=2, batch=1000, most_fed=500, link=NO_DELAY)
    uneven = learner().step(ranks=2, batch=1000, most_fed=700, link=NO_DELAY)
    assert uneven.total_s - even.total_s == pytest.approx(2.0)


def test_contention_slows_what_is_computed_and_not_what_is_sent() -> None:
    link = Link(latency_s=0.0, bytes_per_s=100.0)
    terms = learner(optimizer_s=4.0, size=100).step(
        ranks=2, batch=1000, most_fed=500, link=link, contention=1.5
    )
    assert terms.total_s == pytest.approx(1.5 * (1.0 + 6.0 + 2.0) + 1.0)


def test_weights_and_gradients_go_round_once_part_by_part() -> None:
    link = Link(latency_s=0.01, bytes_per_s=100.0)
    terms = learner(size=400, parts=5).step(ranks=4, batch=0, most_fed=0, link=link)
    # 2 x 5 calls of 3 hops, and three quarters of 2 x 400 bytes.
    assert terms.collectives_s == pytest.approx(10 * 3 * 0.01 + 600 / 100)


def test_samplers_divide_tokens_and_not_the_longest_reply() -> None:
    cost = SamplerCost(decoding=Line(fixed_s=0.1, each_s=0.01))
    assert cost.sample_s(samplers=1, tokens=1000, longest=50) == pytest.approx(5.0 + 10.0)
    assert cost.sample_s(samplers=2, tokens=1000, longest=50) == pytest.approx(5.0 + 5.0)
    assert cost.sample_s(samplers=1000, tokens=1000, longest=50) == pytest.approx(5.0, rel=0.01)
    assert cost.sample_s(samplers=2, tokens=1000, longest=50, contention=2.0) == pytest.approx(20.0)


def test_rows_that_do_not_fit_in_are_sampled_later() -> None:
    cost = SamplerCost(decoding=Line(fixed_s=0.1, each_s=0.0), most_rows=4)
    assert cost.sample_s(samplers=1, tokens=1000, longest=50) == pytest.approx(25.0)
    assert cost.sample_s(samplers=5, tokens=1000, longest=50) == pytest.approx(5.0)


def test_machines_hand_weights_on_to_as_many_as_have_them() -> None:
    def seconds(machines: int) -> float:
        return transfer_s(100, ranks=1, machines=machines, link=NO_DELAY, copy=50.0, network=10.0)

    assert seconds(0) == pytest.approx(4.0)
    assert [seconds(machines) - 4.0 for machines in (1, 3, 7, 8)] == pytest.approx([10, 20, 30, 40])

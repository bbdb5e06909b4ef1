"""That the benchmark of scaling predicts from what it was given, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.cost_model import LearnerCost, Line, SamplerCost
from benchmarks.scaling import (
    COLLECTIVE_BYTES,
    GROUP,
    SAMPLED_REPLY,
    Gpus,
    Measured,
    Plan,
    Work,
    fed_by_rank,
    fit,
    imbalance,
    make_batch,
    predict,
    rows_of,
)

PLAN = Plan(hidden=64, layers=1, tasks=(1, 2), rows=(4, 8), repeats=1)
EPISODE = 3 * 32 + 2 * 16 - 1
"""Tokens of an episode that are fed: calls, answers between them, the last token left out."""


def measured(*, shared: float = 1.0, sampled_by_two: float = 1.0) -> Measured:
    """A millisecond a token; decoding takes a tenth and a hundredth a row."""
    tokens = {tasks: tasks * (96 + GROUP * EPISODE) for tasks in PLAN.tasks}
    return Measured(
        alone={tasks: 0.001 * count + 0.5 for tasks, count in tokens.items()},
        shared=shared,
        preparation=dict.fromkeys(PLAN.tasks, 0.1),
        share=dict.fromkeys(PLAN.tasks, 0.2),
        learner_beside=(1.0, 1.5),
        sampled={rows: SAMPLED_REPLY * (0.1 + 0.01 * rows) for rows in PLAN.rows},
        sampled_by_two=sampled_by_two,
        sampler_beside=(1.0, 1.25),
        collectives={size: 0.01 + size / 2**20 for size in COLLECTIVE_BYTES},
        optimizer=0.4,
        weights=0.0,
    )


def test_a_task_on_each_of_two_ranks_is_an_even_share() -> None:
    assert fed_by_rank(rows_of(make_batch(2)), 2) == [96 + GROUP * EPISODE] * 2


def test_two_are_predicted_from_one_and_from_what_is_not_divided() -> None:
    fitted = fit(PLAN, measured())
    terms = fitted.learner_terms
    assert terms.preparation_s == pytest.approx(1.5 * 0.2)
    assert terms.passes_s == pytest.approx(1.5 * 0.001 * (96 + GROUP * EPISODE), rel=1e-3)
    assert terms.optimizer_s == pytest.approx(1.5 * 0.2)
    parameters = fitted.learner.weight_bytes / 4
    # One hop, 2 x 2 calls, half of 8 bytes a parameter.
    assert terms.collectives_s == pytest.approx(4 * 0.005 + 4 * parameters / 2**20)
    assert fitted.sampled_s == pytest.approx(1.25 * SAMPLED_REPLY * (0.1 + 0.01 * 4))


def test_what_two_took_is_no_part_of_the_prediction() -> None:
    one = fit(PLAN, measured())
    other = fit(PLAN, measured(shared=9.0, sampled_by_two=9.0))
    assert one == other


def test_shares_of_many_ranks_are_less_even() -> None:
    work = Work(episodes=32, group=4, prompt=400, mean_reply=400, longest_reply=1600)
    assert imbalance(work, 1) == 1.0
    assert 1.0 <= imbalance(work, 2) < imbalance(work, 16)


NOTHING = Line(fixed_s=0.0, each_s=0.0)
WORK = Work(episodes=10, group=10, prompt=0, mean_reply=100, longest_reply=300)
LEARNER = LearnerCost(
    preparation=NOTHING,
    passes=Line(fixed_s=0.0, each_s=0.01),
    optimizer_s=0.0,
    weight_bytes=0.0,
    gradient_bytes=0.0,
    parts=0,
)
EVEN = {1: 1.0, 2: 1.0, 4: 1.0}


def test_gpus_are_shared_out_so_that_neither_side_waits_long() -> None:
    # 1000 tokens: 10 s of learning by one rank, 30 s of sampling by one sampler.
    sampler = SamplerCost(decoding=Line(fixed_s=0.0, each_s=0.03))
    chosen = predict(8, WORK, gpus=Gpus(), learner=LEARNER, sampler=sampler, imbalances=EVEN)
    assert (chosen.ranks, chosen.samplers) == (2, 6)
    assert chosen.terms_s["step"] == pytest.approx(5.0, rel=1e-4)
    assert chosen.binds in ("learner's compute", "sampling beyond the longest reply")


def test_what_binds_is_the_largest_term_of_the_longer_side() -> None:
    slow_reply = SamplerCost(decoding=Line(fixed_s=0.1, each_s=0.0))
    chosen = predict(8, WORK, gpus=Gpus(), learner=LEARNER, sampler=slow_reply, imbalances=EVEN)
    assert chosen.binds == "longest reply"
    assert chosen.terms_s["step"] == pytest.approx(30.0, rel=1e-4)
    fast = SamplerCost(decoding=NOTHING)
    heavy = replace(LEARNER, weight_bytes=1e15)
    chosen = predict(8, WORK, gpus=Gpus(), learner=heavy, sampler=fast, imbalances={1: 1.0})
    assert chosen.binds == "weight transfer"
    uneven = predict(8, WORK, gpus=Gpus(), learner=LEARNER, sampler=fast, imbalances={4: 3.0})
    assert uneven.binds == "imbalance"
    assert uneven.terms_s["step"] == pytest.approx(7.5, rel=1e-4)

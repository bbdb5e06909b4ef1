"""Agreement of a rubric with people."""

from __future__ import annotations

import numpy as np
import pytest

from astuner_gym.rubrics.agreement import agreement, beyond_chance, cohens_kappa, kendalls_tau
from astuner_gym.rubrics.examples import Example, LabelKind


def numbers(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(values, dtype=np.float64)


def examples(labels: list[float], units: list[int] | None = None) -> list[Example]:
    of = units or list(range(len(labels)))
    return [
        Example(question="Q", answer=str(n), label=label, unit=unit)
        for n, (label, unit) in enumerate(zip(labels, of, strict=True))
    ]


@pytest.mark.parametrize(
    ("said", "labels", "kappa"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 1.0),
        ([1, 1, 0, 0], [0, 0, 1, 1], -1.0),
        ([1, 0, 1, 0], [1, 1, 0, 0], 0.0),
        ([1, 1, 1, 1], [1, 1, 0, 0], 0.0),
        ([1, 1, 1, 1], [1, 1, 1, 1], 0.0),
        # 3 of 4 agree, and chance gives 3/4 · 1/2 + 1/4 · 1/2 = 1/2.
        ([1, 1, 1, 0], [1, 1, 0, 0], 0.5),
    ],
)
def test_kappa_is_agreement_beyond_chance(
    said: list[float], labels: list[float], kappa: float
) -> None:
    assert cohens_kappa(numbers(*said), numbers(*labels)) == pytest.approx(kappa)


def test_tau_counts_pairs_within_groups() -> None:
    one = numbers(0, 0, 0)
    assert kendalls_tau(numbers(1, 2, 3), numbers(1, 2, 3), one) == pytest.approx(1)
    assert kendalls_tau(numbers(1, 2, 3), numbers(3, 2, 1), one) == pytest.approx(-1)
    assert kendalls_tau(numbers(1, 1, 1), numbers(3, 2, 1), one) == 0
    # Two pairs of the first differ, three of the second, all two alike: 2 / sqrt(6).
    assert kendalls_tau(numbers(1, 1, 2), numbers(1, 2, 3), one) == pytest.approx(2 / 6**0.5)
    # Between groups nothing is compared.
    assert kendalls_tau(numbers(1, 2, 9, 3), numbers(1, 2, 1, 0), numbers(0, 0, 1, 1)) == 1


def test_rewards_that_follow_the_labels_agree_wholly() -> None:
    agreed = agreement(
        [0.9, 0.2] * 5, examples([1, 0] * 5), kind=LabelKind.BINARY, success_from=0.5, seed=0
    )
    assert agreed.measure == "kappa"
    assert (agreed.accuracy.low, agreed.accuracy.value, agreed.accuracy.high) == (1, 1, 1)
    assert agreed.beyond_chance.value == 1


def test_an_interval_encloses_its_estimate_and_a_seed_names_it() -> None:
    labels = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    rewards = [0.1, 0.3, 0.2, 0.6, 0.4, 0.5]
    agreed = [
        agreement(rewards, examples(labels), kind=LabelKind.SCORED, success_from=0.5, seed=seed)
        for seed in (3, 3)
    ]
    first = agreed[0].beyond_chance
    assert first.low < first.value < first.high
    assert first.value == pytest.approx(9 / 15)  # 12 pairs alike, 3 not
    assert agreed[0] == agreed[1]


def test_an_interval_of_lists_is_that_of_their_number() -> None:
    """Of 100 pairs half are ordered right: 0.5, give or take 1.96 * sqrt(0.25 / 100)."""
    lists = examples([0, -1] * 100, units=[n // 2 for n in range(200)])
    rewards = [0.2, 0.1, 0.3, 0.4] * 50
    share = agreement(rewards, lists, kind=LabelKind.RANKED, success_from=0.5, seed=0).accuracy
    assert (share.low, share.value, share.high) == pytest.approx((0.402, 0.5, 0.598), abs=0.02)


def test_lists_are_compared_each_within_itself() -> None:
    both = examples([0, -1, 0, -1], units=[0, 0, 1, 1])
    agreed = beyond_chance([0.2, 0.1, 0.9, 0.8], both, kind=LabelKind.RANKED, success_from=0.5)
    assert agreed == 1
    as_scores = beyond_chance([0.2, 0.1, 0.9, 0.8], both, kind=LabelKind.SCORED, success_from=0.5)
    assert as_scores < 1

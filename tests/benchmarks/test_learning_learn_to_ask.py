"""What the benchmark of learn_to_ask makes of rewards and figures before and after."""

from __future__ import annotations

import math

import pytest

from benchmarks.learning import HEADLINE, Result, reward_gain
from benchmarks.learning_learn_to_ask import bars


def result(part: str, rewards: list[float], *, seed: int = 0, stop: float = 0.5) -> Result:
    return Result(
        part=part,
        seed=seed,
        commit="c0ffee",
        command=("env=learn_to_ask",),
        settings="",
        first_weights="beef",
        tasks=len(rewards),
        solved={HEADLINE: "".join(str(int(reward == 4)) for reward in rewards)},
        rewards={HEADLINE: rewards},
        means={
            HEADLINE: {
                "judge/stop_accuracy": stop,
                "judge/continue_accuracy": 0.9,
                "judge/content": 0.6,
            }
        },
        minutes=12.0,
    )


def results(*given: Result) -> dict[tuple[str, int], Result]:
    return {(each.part, each.seed): each for each in given}


LOW, HIGH = [1.0, 2.0] * 8, [3.0, 4.0] * 8


def test_a_reward_gain_is_paired_by_task() -> None:
    interval = reward_gain(result("base", LOW), result("grpo", HIGH), HEADLINE)
    assert (interval.low, interval.mean, interval.high) == (2.0, 2.0, 2.0)


def test_every_bar_holds_where_all_is_learned() -> None:
    found = bars(
        results(
            result("base", LOW), result("grpo", HIGH), result("control", LOW), result("ppo", LOW)
        )
    )
    assert all(bar.holds for bar in found.values())
    assert found["reward_gain_min_over_seeds"].value == 2.0


def test_the_worst_seed_counts() -> None:
    found = bars(
        results(
            *(result("base", LOW, seed=seed) for seed in (0, 1)),
            result("grpo", HIGH, seed=0),
            result("grpo", LOW, seed=1, stop=0.4),
        )
    )
    assert not found["reward_gain_min_over_seeds"].holds
    assert not found["reward_intervals_distance_min"].holds
    assert found["stop_accuracy_change_min"].value == pytest.approx(-0.1)
    assert not found["stop_accuracy_change_min"].holds
    assert found["content_change_min"].holds


def test_a_control_that_moves_by_a_twentieth_of_the_range_at_most_holds() -> None:
    def control(rise: float) -> bool:
        moved = result("control", [reward + rise for reward in LOW])
        return bars(results(result("base", LOW), moved))["control_change_max"].holds

    assert control(0.19) and not control(0.21) and not control(-0.21)


def test_what_was_not_run_meets_no_bar() -> None:
    found = bars({})
    assert all(math.isnan(bar.value) and not bar.holds for bar in found.values())

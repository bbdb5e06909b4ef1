"""What the benchmarks of learning make of the tasks that were solved before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from benchmarks.learning import (
    HEADLINE,
    Plan,
    Result,
    Store,
    base_command,
    command_of,
    digest_of_first_weights,
    digest_of_settings,
    gain,
    measure,
    not_measured,
    part_names,
    quick_plan,
    sft_command,
    trained_policy,
    variant_name,
)
from benchmarks.learning_gsm8k import BENCHMARK, GRPO, SFT, bars
from benchmarks.learning_werewolves import bars as bars_of_werewolves
from benchmarks.random_model import save_random_model

BASE = "base"
PLAN = Plan(tasks=4, settings=(), sft_examples=9, sft_steps=None)


def result(
    part: str, heldout: str, *, seed: int = 0, unseen: str = "0000", settings: str = ""
) -> Result:
    return Result(
        part=part,
        seed=seed,
        commit="c0ffee",
        command=("env=gsm8k", f"seed={seed}"),
        settings=settings,
        first_weights="beef",
        tasks=4,
        solved={HEADLINE: heldout, "unseen T=1": unseen},
        minutes=3.0,
        peak_rss_gb=0.5,
    )


def results(*given: Result) -> dict[tuple[str, int], Result]:
    return {(each.part, each.seed): each for each in given}


def test_a_gain_is_paired_by_task() -> None:
    learned_one = gain(result(BASE, "0110"), result("grpo", "1110"), HEADLINE)
    assert learned_one.mean == 0.25
    assert learned_one.low == 0.0  # no task was lost, so no resample loses any
    swapped = gain(result(BASE, "0110"), result("grpo", "1001"), HEADLINE)
    assert swapped.mean == 0.0
    assert swapped.low < 0.0 < swapped.high


def test_several_episodes_of_a_task_count_as_their_share_and_greedy_ones_as_one() -> None:
    before = replace(
        result(BASE, "0143"), solved={HEADLINE: "0143", "heldout greedy": "0111"}, samples=4
    )
    assert before.outcomes(HEADLINE) == [0.0, 0.25, 1.0, 0.75]
    assert before.outcomes("heldout greedy") == [0.0, 1.0, 1.0, 1.0]
    after = replace(before, solved={HEADLINE: "1144", "heldout greedy": "0111"})
    assert gain(before, after, HEADLINE).mean == 0.125


def test_results_of_other_numbers_of_tasks_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="zip"):
        gain(result(BASE, "0110"), result("grpo", "11101"), HEADLINE)


def test_the_worst_seed_counts() -> None:
    measured = bars(
        results(
            result(BASE, "0000"),
            result("grpo", "1111", unseen="1000"),
            result("control", "0000"),
            result("ppo", "1000"),
            result(BASE, "1000", seed=1, unseen="1000"),
            replace(result("grpo", "1110", seed=1), minutes=12.0, peak_rss_gb=3.5),
            result("control", "0000", seed=1),
            result("ppo", "1000", seed=1),
        )
    )
    values = {name: bar.value for name, bar in measured.items()}
    assert values == {
        "gain_min_over_seeds": 0.5,
        "final_min_over_seeds": 0.75,
        "control_change_max": 0.25,  # a loss is a change, too
        "train_minutes_max": 12.0,
        "peak_rss_gb": 3.5,
        "ppo_gain_min": 0.0,
        "unseen_template_gain_min": -0.25,
    }
    assert {name for name, bar in measured.items() if bar.holds} == {
        "gain_min_over_seeds",
        "final_min_over_seeds",
    }


def test_each_side_is_compared_with_its_own_first_policy() -> None:
    measured = bars_of_werewolves(
        results(
            result("base-wolves", "1000"),
            result("base-village", "1100"),
            result("wolves", "1110"),
            replace(result("village", "1110"), minutes=50.0),
            result("control", "0000"),
        )
    )
    assert {name: (bar.value, bar.holds) for name, bar in measured.items()} == {
        "wolves_gain_min_over_seeds": (0.5, True),
        "village_gain_min_over_seeds": (0.25, True),
        "control_change_max": (0.25, False),
        "minutes_max": (50.0, False),
    }


def test_a_part_that_was_not_run_holds_no_bar() -> None:
    measured = bars(results(result(BASE, "0000")))
    assert all(math.isnan(bar.value) and not bar.holds for bar in measured.values())


def store(
    folder: Path,
    *,
    results: Path | None = None,
    commit: str = "c0ffee",
    first_weights: str = "beef",
    reuse: bool = False,
) -> Store:
    return Store(
        folder=folder,
        results=results or folder,
        commit=commit,
        first_weights=first_weights,
        reuse=reuse,
    )


@pytest.fixture(scope="module")
def grpo() -> Result:
    """A result as one of today's defaults."""
    settings = digest_of_settings("grpo", result("grpo", "0110").command)
    return result("grpo", "0110", settings=settings)


def test_a_kept_result_comes_back_as_it_was(tmp_path: Path, grpo: Result) -> None:
    kept = store(tmp_path).keep(replace(grpo, load_average=[0.5, 2.0]))
    found = store(tmp_path).find("grpo", seed=0, command=kept.command, plan=PLAN)
    assert found == kept


def test_a_part_that_was_trained_is_only_measured(tmp_path: Path) -> None:
    plan = quick_plan(tmp_path, environment=["env=gsm8k"])
    command = command_of(GRPO, 0, plan=plan)
    kept = store(tmp_path / "work", results=tmp_path / "results")
    first = trained_policy(GRPO, 0, command, plan=plan, store=kept)
    (tmp_path / "results/grpo-s0.json").unlink()
    log = tmp_path / "work/grpo-s0/output.txt"
    log.write_text("still here")
    assert trained_policy(GRPO, 0, command, plan=plan, store=kept) == first
    assert log.read_text() == "still here"  # a run that begins writes its own
    assert first.steps == 2
    assert len(first.solved[HEADLINE]) == plan.tasks


def test_other_seeds_settings_and_sizes_are_measured_anew(tmp_path: Path, grpo: Result) -> None:
    kept = store(tmp_path).keep(grpo)
    find = store(tmp_path, reuse=True).find
    assert find("grpo", seed=1, command=kept.command, plan=PLAN) is None
    assert find("ppo", seed=0, command=kept.command, plan=PLAN) is None
    assert find("grpo", seed=0, command=[*kept.command, "algo.lr=1"], plan=PLAN) is None
    assert find("grpo", seed=0, command=kept.command, plan=replace(PLAN, tasks=8)) is None
    assert find("grpo", seed=0, command=kept.command, plan=replace(PLAN, samples=2)) is None


def test_a_result_of_other_defaults_is_measured_anew(tmp_path: Path, grpo: Result) -> None:
    kept = store(tmp_path).keep(replace(grpo, settings="of another day"))
    find = store(tmp_path, reuse=True).find
    assert find("grpo", seed=0, command=kept.command, plan=PLAN) is None


def test_all_settings_count_but_for_the_first_policy_those_of_training() -> None:
    usual, other = ["env=gsm8k"], ["env=gsm8k", "algo.epochs=7", "train.steps=8"]
    assert digest_of_settings("grpo", usual) != digest_of_settings("grpo", other)
    assert digest_of_settings(BASE, usual) == digest_of_settings(BASE, other)
    shorter = [*usual, "rollout.max_tokens=9"]
    assert digest_of_settings(BASE, usual) != digest_of_settings(BASE, shorter)


def test_results_from_other_first_weights_are_measured_anew(tmp_path: Path, grpo: Result) -> None:
    kept = store(tmp_path).keep(grpo)
    find = store(tmp_path, first_weights="dead", reuse=True).find
    assert find("grpo", seed=0, command=kept.command, plan=PLAN) is None


def test_a_seed_that_was_begun_elsewhere_is_taken_as_far_as_it_was_measured_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kept(name: str, seed: int, command: Sequence[str], weights: str) -> Result:
        settings = digest_of_settings(name, command)
        given = result(name, "0110", seed=seed, settings=settings)
        return replace(given, command=tuple(command), first_weights=weights)

    here = store(tmp_path, reuse=True)
    expected = [
        here.keep(
            kept("base", seed, base_command(GRPO, seed, plan=PLAN), weights)
            if name == "base"
            else kept(name, seed, command_of(BENCHMARK.part(name), seed, plan=PLAN), weights)
        )
        for seed, weights in ((0, "dead"), (1, "beef"))
        for name in ("base", "grpo")
    ]
    # Kept from here, in a seed that was begun elsewhere: it is not paired with that seed's base.
    here.keep(kept("control", 0, command_of(BENCHMARK.part("control"), 0, plan=PLAN), "beef"))

    parts = ("grpo", "control", "sft")
    # Seed 1 was begun here, so what it lacks would be run.
    found = dict(measure(BENCHMARK, parts, [0], plan=PLAN, store=here))
    found |= measure(BENCHMARK, ["grpo"], [1], plan=PLAN, store=here)
    assert found == results(*expected)
    assert not_measured(BENCHMARK, parts, [0], found) == ["control-s0", "sft-s0"]
    printed = capsys.readouterr().out
    assert (
        "control, seed 0: not measured; another kind of processor built its first weights, dead"
        in printed
    )
    assert "sft, seed 0: not measured" in printed

    run_nothing = replace(here, runs_nothing="--kept was asked for")
    found = dict(measure(BENCHMARK, parts, [1, 2], plan=PLAN, store=run_nothing))
    assert found == results(*expected[2:])
    assert not_measured(BENCHMARK, parts, [1, 2], found) == [
        "grpo-s2",
        "control-s1",
        "control-s2",
        "sft-s1",
        "sft-s2",
    ]
    assert "base, seed 2: not measured; --kept was asked for" in capsys.readouterr().out


def test_a_digest_is_of_every_weight(tmp_path: Path) -> None:
    save_random_model(tmp_path, environment=["env=gsm8k"])
    settings = ["env=gsm8k", "model=hf", f"model.path={tmp_path}"]
    digest = digest_of_first_weights(settings)
    assert digest_of_first_weights(settings) == digest
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights[max(weights)].view(-1)[-1] += 1.0
    save_file(weights, file, metadata={"format": "pt"})
    assert digest_of_first_weights(settings) != digest


@pytest.mark.parametrize(
    ("before", "now", "reuse", "found"),
    [
        ("c0ffee", "decade", False, False),
        ("c0ffee", "decade", True, True),
        # Two working trees with changes need not have the same ones.
        ("c0ffee-dirty", "c0ffee-dirty", False, False),
        ("c0ffee-dirty", "c0ffee-dirty", True, True),
    ],
)
def test_another_commit_counts_only_where_asked_for(
    tmp_path: Path, grpo: Result, before: str, now: str, reuse: bool, found: bool
) -> None:
    kept = store(tmp_path).keep(replace(grpo, commit=before))
    again = store(tmp_path, commit=now, reuse=reuse).find(
        "grpo", seed=0, command=kept.command, plan=PLAN
    )
    assert (again is not None) == found


def test_supervised_learning_is_given_its_steps_and_nothing_of_rewards() -> None:
    plan = replace(PLAN, settings=("model=tiny",))
    assert sft_command(SFT, 2, steps=7, examples=9, plan=plan) == [
        "env=gsm8k",
        "algo=sft",
        "seed=2",
        "model=tiny",
        "algo.examples=9",
        "train.steps=7",
        "checkpoint.every=7",
        "eval.every=0",
    ]


def test_a_variant_is_of_what_learns_by_reward_and_has_a_name_of_its_own() -> None:
    variant = ("sampler=vllm", "backbone=ray")
    plan = replace(PLAN, variant=variant)
    assert command_of(GRPO, 2, plan=plan) == ["env=gsm8k", "algo=grpo", "seed=2", *variant]
    assert part_names(BENCHMARK, variant) == ["grpo", "control", "ppo"]
    assert part_names(BENCHMARK, ()) == ["grpo", "control", "ppo", "sft"]
    assert variant_name(BENCHMARK, variant) == "learning_gsm8k_vllm_ray"
    assert variant_name(BENCHMARK, ()) == "learning_gsm8k"

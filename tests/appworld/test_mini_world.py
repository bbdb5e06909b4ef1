"""The mini world with the real engine: who solves what, and for how much."""

from __future__ import annotations

import asyncio
import json
from random import Random

import pytest

from astuner_envs.appworld.demonstrations import conversation, expert_replies
from astuner_envs.appworld.mini.plan import numbered_variants
from astuner_envs.appworld.mini.scenarios import TRAINED, UNSEEN
from astuner_envs.appworld.world import CheckResult, WorldError, evaluate
from tests.appworld.conftest import SCALE, Stage

IDS = [id_ for _, id_, _ in numbered_variants(scale=SCALE)]


@pytest.mark.parametrize("task_id", IDS)
def test_the_expert_solves_every_task_and_is_told_what_demonstrations_say(
    stage: Stage, task_id: str
) -> None:
    variant = stage.variants[task_id]
    played = stage.play(task_id, expert_replies(variant))
    told = [m.text for m in conversation(variant).messages if m.role == "user"]
    assert played.told == told
    assert played.outcome.flags == ()
    assert played.score.success
    assert played.score.reward("coder") == 1.0


@pytest.mark.parametrize("task_id", IDS[::7])
def test_who_does_nothing_gets_nothing(stage: Stage, task_id: str) -> None:
    played = stage.play(task_id, [])
    assert played.score.reward("coder") == 0.0
    assert not played.score.success
    assert played.outcome.checks is not None
    assert played.outcome.checks.required_passed == 0
    assert played.outcome.checks.no_op_failed == 0


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_a_slip_of_the_expert_is_worth_less(stage: Stage, name: str) -> None:
    task_id = f"{name}0_1"
    played = stage.play(task_id, expert_replies(stage.variants[task_id], rng=Random(0)))
    assert not played.score.success
    assert played.score.reward("coder") < 1.0


def test_part_of_a_task_is_worth_a_part(stage: Stage) -> None:
    variant = stage.variants["notenew0_1"]
    login, create = (turn for turn in variant.turns)
    without_completion = create.replace("apis.supervisor.complete_task()", "")
    played = stage.play("notenew0_1", [login, without_completion])
    assert played.outcome.checks is not None
    assert (played.outcome.checks.required_passed, played.outcome.checks.required) == (3, 4)
    assert played.score.reward("coder") == 0.75


def test_a_limit_ends_an_episode_with_what_was_changed_by_then(stage: Stage) -> None:
    variant = stage.variants["notenew0_1"]
    login, create = (turn for turn in variant.turns)
    without_completion = create.replace("apis.supervisor.complete_task()", "")
    played = stage.play("notenew0_1", [login, without_completion, "never"], limit=2)
    assert (played.outcome.executions, played.outcome.completed) == (2, False)
    assert played.score.reward("coder") == 0.75


def test_harm_beside_the_task_is_subtracted(stage: Stage) -> None:
    variant = stage.variants["notenew0_1"]
    harm = variant.turns[0] + "\napis.simple_note.update_account_name(access_token=token, "
    harm += 'first_name="X", last_name="Y")'
    played = stage.play("notenew0_1", [harm, variant.turns[1]])
    assert played.outcome.checks is not None
    assert (played.outcome.checks.no_op_failed, played.outcome.checks.no_op) == (1, 1)
    assert played.score.reward("coder") == 0.0


def test_a_text_may_hold_a_line_separator(stage: Stage) -> None:
    variant = stage.variants["notenew0_1"]
    written = variant.turns[0] + "\napis.simple_note.update_account_name("
    written += 'access_token=token, first_name="X\u2028\x85", last_name="Y")'
    played = stage.play("notenew0_1", [written, variant.turns[1]])
    assert played.outcome.flags == ()
    assert played.outcome.checks is not None
    assert played.outcome.checks.no_op_failed == 1


def test_a_fault_of_the_task_is_not_the_agents(stage: Stage) -> None:
    evaluators = stage.environment.services[1]

    async def run(task_id: str) -> CheckResult | None:
        async with evaluators.lease() as lease:
            return await evaluate(lease, task_id, {"phone": "[1]"})

    assert asyncio.run(run("notenew0_1")) is None
    with pytest.raises(WorldError, match="the evaluation of task buy-milk_1 must be answered"):
        asyncio.run(run("buy-milk_1"))


def test_splits_share_no_task_and_kinds_of_unseen_are_not_trained(stage: Stage) -> None:
    train, held_out, unseen = (set(stage.splits[s]) for s in ("train", "heldout", "unseen"))
    assert not train & held_out
    assert not {*TRAINED} & {*UNSEEN}
    assert all(id_.startswith(tuple(UNSEEN)) for id_ in unseen)
    assert len(TRAINED) >= 8
    assert len({app for variant in stage.variants.values() for app in variant.apps}) >= 4


def test_what_executors_read_holds_no_ground_truth(stage: Stage) -> None:
    opened = stage.root / "open" / "data"
    assert (opened / "tasks" / "notenew0_1" / "specs.json").exists()
    assert not list(opened.rglob("*ground_truth*"))
    sealed = stage.root / "sealed" / "data" / "tasks" / "noteask0_1" / "ground_truth"
    assert json.loads((sealed / "answer.json").read_text()) == stage.variants["noteask0_1"].answer

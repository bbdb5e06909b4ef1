"""The mini world's requests as data, without the engine."""

from __future__ import annotations

import ast
from collections import Counter
from random import Random

import pytest

from astuner_envs.appworld.demonstrations import (
    FIRST_SCENARIO,
    HELD_OUT_SCENARIO,
    ExpertConversations,
    conversation,
    expert_replies,
)
from astuner_envs.appworld.mini.evaluation import evaluation_source, labelled_requirements
from astuner_envs.appworld.mini.plan import numbered_variants
from astuner_envs.appworld.mini.scenarios import TRAINED, UNSEEN, VARIANTS, Variant, variants
from astuner_envs.appworld.workflow import code_of, shown
from astuner_gym.chat.messages import ChatRole


def test_sizes_of_the_splits() -> None:
    sizes = Counter(split for split, _, _ in numbered_variants())
    assert sizes == {"train": 576, "heldout": 528, "unseen": 132}


def test_ids_are_unique_and_name_scenario_and_variant() -> None:
    ids = [id_ for _, id_, _ in numbered_variants()]
    assert len(set(ids)) == len(ids)
    assert all(id_.count("_") == 1 and id_[-1] in "123" for id_ in ids)


def test_how_many_held_out_requests_are_trained() -> None:
    """Words are few: some are drawn twice, of the same person, mostly with other rows."""
    train = {(v.person.name, v.instruction) for s, _, v in numbered_variants() if s == "train"}
    held_out = [(v.person.name, v.instruction) for s, _, v in numbered_variants() if s == "heldout"]
    assert (sum(request in train for request in held_out), len(held_out)) == (99, 528)


def test_how_many_held_out_tasks_are_trained_rows_and_all() -> None:
    def task(variant: Variant) -> tuple[object, ...]:
        return variant.person, variant.instruction, variant.turns, repr(variant.records)

    train = {task(v) for split, _, v in numbered_variants() if split == "train"}
    assert sum(task(v) in train for split, _, v in numbered_variants() if split == "heldout") == 2


@pytest.mark.parametrize("name", [*TRAINED, *UNSEEN])
def test_a_kind_has_three_variants_of_one_person_that_differ(name: str) -> None:
    made = variants(name, {**TRAINED, **UNSEEN}[name], scenario=5)
    assert len(made) == VARIANTS
    assert len({variant.person for variant in made}) == 1
    # Words are few: two may be asked for the same, with other rows in the databases.
    assert len({(variant.turns, repr(variant.records)) for variant in made}) == VARIANTS
    assert made == variants(name, {**TRAINED, **UNSEEN}[name], scenario=5)


@pytest.mark.parametrize("name", [*TRAINED, *UNSEEN])
def test_code_parses_and_each_slip_changes_its_last_piece(name: str) -> None:
    for scenario in range(20):
        for variant in variants(name, {**TRAINED, **UNSEEN}[name], scenario=scenario):
            assert len(variant.outputs) == len(variant.turns) - 1
            for turn in variant.turns:
                ast.parse(turn)
            for right, wrong in variant.slips:
                slipped = variant.turns[-1].replace(right, wrong)
                assert slipped != variant.turns[-1]
                ast.parse(slipped)


@pytest.mark.parametrize("name", [*TRAINED, *UNSEEN])
def test_an_evaluation_parses_and_tests_what_its_data_lists(name: str) -> None:
    variant = variants(name, {**TRAINED, **UNSEEN}[name], scenario=0)[0]
    tree = ast.parse(evaluation_source(variant))
    tested = [
        item.context_expr.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
        if isinstance(item.context_expr, ast.Call)
        and isinstance(item.context_expr.args[0], ast.Constant)
    ]
    assert sorted(map(str, tested)) == sorted(
        datum["requirement"] for datum in labelled_requirements(variant)
    )


def test_an_expert_who_errs_differs_in_the_last_reply_alone() -> None:
    variant = variants("notenew", TRAINED["notenew"], scenario=0)[0]
    right, wrong = expert_replies(variant), expert_replies(variant, rng=Random(0))
    assert right[:-1] == wrong[:-1]
    assert right[-1] != wrong[-1]


def test_about_the_stated_share_of_demonstrations_errs() -> None:
    def conversations(rate: float) -> list[str]:
        made = ExpertConversations(first=FIRST_SCENARIO, scenarios=25, error_rate=rate)
        return [repr(each) for each in made]

    right, some = conversations(0.0), conversations(0.35)
    share = sum(a != b for a, b in zip(right, some, strict=True)) / len(right)
    assert 0.28 < share < 0.42
    assert FIRST_SCENARIO < HELD_OUT_SCENARIO


def test_a_demonstration_alternates_after_the_system_prompt() -> None:
    variant = variants("noteask", TRAINED["noteask"], scenario=0)[0]
    roles = [message.role for message in conversation(variant).messages]
    assert roles[0] is ChatRole.SYSTEM
    assert roles[1:] == [ChatRole.USER, ChatRole.ASSISTANT] * 3


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("```python\nprint(1)\n```", "print(1)"),
        ("Now:\n```\na = 1\nb = 2\n```\nand\n```\nc = 3\n```", "a = 1\nb = 2"),
        ("```py\nprint(1)", "print(1)"),
        ("print(1)", "print(1)"),
        ("", ""),
    ],
)
def test_code_of_a_reply(reply: str, code: str) -> None:
    assert code_of(reply) == code


def test_long_outputs_are_cut() -> None:
    assert shown("a" * 2500) == "a" * 2000 + "\n(500 characters left out)"
    assert shown(" a\n") == "a"

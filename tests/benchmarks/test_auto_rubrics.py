"""The world of the benchmark: what its labels and its server say is what it claims."""

from __future__ import annotations

from random import Random

from benchmarks.auto_rubrics import EXAMPLES, hidden_criterion, labelled
from benchmarks.judge_attacks import ATTACKS, HONEST
from benchmarks.scripted_judge import FEATURES, ScriptedJudge, make_answer


def test_so_many_labels_are_wrong_and_no_more() -> None:
    hidden = {feature.question: feature.met for feature in FEATURES}[hidden_criterion(3)]
    examples = labelled(3).examples
    wrong = [each for each in examples if (hidden in each.answer) is not (each.label == 1)]
    assert (len(examples), len(wrong)) == (EXAMPLES, 12)
    assert len(FEATURES) >= 20


def test_a_sentence_says_one_thing_only() -> None:
    answer, met = make_answer(Random(0))
    for feature in FEATURES:
        assert (feature.met in answer) is met[feature.question]
        assert (feature.not_met in answer) is not met[feature.question]


def test_the_server_proposes_what_was_not_tried_and_looks_for_sentences() -> None:
    judge = ScriptedJudge(seed=0, error_rate=0.0)
    orders = "Write at most 3 questions"
    first = judge([{"content": orders}, {"content": ""}]).splitlines()
    again = judge([{"content": "\n".join([orders, *first])}, {"content": ""}]).splitlines()
    assert len(set(first) | set(again)) == 6
    checks = f"1. {FEATURES[0].question}\n2. {FEATURES[1].question}"
    assert judge([{"content": checks}, {"content": FEATURES[0].met}]) == "1: yes\n2: no"


def test_attacks_are_worded_in_several_ways() -> None:
    assert all(len(set(wordings)) >= 3 for wordings in ATTACKS.values())
    assert len(HONEST) >= 20

"""Penalties for the form of an answer."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astuner_gym.errors import SettingError
from astuner_gym.judge import Judge
from astuner_gym.judging.penalties import (
    FormatPenalty,
    LengthPenalty,
    RepetitionPenalty,
    repeated_share,
)
from astuner_gym.task import JsonValue, Task
from astuner_gym.workflow import WorkflowResult


def penalty(judge: Judge, output: JsonValue) -> float:
    score = asyncio.run(judge.score(Task(id="t", record={}), WorkflowResult(output=output)))
    assert score.success
    return score.reward("anyone")


@pytest.mark.parametrize(
    ("text", "words", "share"),
    [
        ("no no no yes", 1, 0.5),
        ("a b c a b c", 3, 0.25),
        ("a b c d", 3, 0.0),
        ("A b. a B.", 2, 0.4),  # of a b, b ., . a, a b, b .
        ("a b", 3, 0.0),
        ("#### 4", 1, 0.0),
        ("", 1, 0.0),
        ("好好好", 1, 2 / 3),
    ],
)
def test_repeated_runs_are_counted(text: str, words: int, share: float) -> None:
    assert repeated_share(text, words=words) == pytest.approx(share)
    assert penalty(RepetitionPenalty(words=words), text) == pytest.approx(-share)


@settings(deadline=None)
@given(st.text(max_size=60), st.integers(1, 4))
def test_a_share_is_a_share_whatever_the_spacing(text: str, words: int) -> None:
    share = repeated_share(text, words=words)
    assert 0 <= share < 1
    assert repeated_share(f" {text}\n\n".replace(" ", "  "), words=words) == share


@pytest.mark.parametrize(
    ("output", "amount"),
    [("", 0), ("1234", 0), ("12345", -0.25), ("12345678", -1), ("1" * 99, -1), (None, 0)],
)
def test_length_is_penalised_beyond_the_limit(output: str | None, amount: float) -> None:
    assert penalty(LengthPenalty(limit=4), output) == amount


@pytest.mark.parametrize(
    ("output", "amount"), [("a\nb####4", 0), ("####4!", -1), ("x", -1), (None, -1), ({"a": 1}, -1)]
)
def test_an_answer_of_another_format_is_penalised(output: JsonValue, amount: float) -> None:
    assert penalty(FormatPenalty(pattern=r".*####\d+"), output) == amount


def test_settings_that_break_a_rule_are_refused() -> None:
    with pytest.raises(SettingError, match=r"words must be >= 1, got 0"):
        RepetitionPenalty(words=0)
    with pytest.raises(SettingError, match=r"limit must be >= 1, got 0"):
        LengthPenalty(limit=0)
    with pytest.raises(SettingError, match=r"must be a regular expression, got '\('"):
        FormatPenalty(pattern="(")

"""The tutorial's Python prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial_learn_to_ask.md"


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", TUTORIAL.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", [0, 1])
def test_an_example_prints_the_comments_below_it(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code = examples()[number]
    promised = re.findall(r"^# (.*)$", code, re.MULTILINE)
    exec(compile(code, TUTORIAL.name, "exec"), {})
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert promised
    if promised[0] == "…":
        promised = promised[1:]
        printed = printed[-len(promised) :]
    assert printed == promised

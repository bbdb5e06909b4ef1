"""The example of Gymnasium in docs/adapters.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[3] / "docs/adapters.md"


def test_gymnasium(capsys: pytest.CaptureFixture[str]) -> None:
    section = DOCUMENT.read_text("utf-8").partition("## Gymnasium")[2]
    (example,) = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    exec(compile(example, str(DOCUMENT), "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "reward 0.0"

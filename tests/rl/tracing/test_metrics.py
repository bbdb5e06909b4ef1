"""Every line of metrics is whole, strict JSON, and on the disk."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import pytest

from astuner_gym.errors import UnusableInputError
from astuner_rl.errors import RunAbortedError
from astuner_rl.tracing.metrics import (
    MetricsLine,
    MetricsLog,
    drop_metrics_after,
    read_metrics,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_a_step_is_one_json_object_with_sorted_names(path: Path) -> None:
    with MetricsLog(path) as log:
        log.append(0, {"tokens/sampled": 12, "reward/mean": 0.25, "run/exact": True})
    assert path.read_text() == (
        '{"step": 0, "reward/mean": 0.25, "run/exact": true, "tokens/sampled": 12}\n'
    )


def test_what_is_not_finite_becomes_null(path: Path) -> None:
    with MetricsLog(path) as log:
        log.append(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.0})
    assert json.loads(path.read_text()) == {"step": 1, "a": None, "b": None, "c": None, "d": 0.0}
    assert read_metrics(path) == [MetricsLine(1, {"a": None, "b": None, "c": None, "d": 0.0})]


def test_a_line_is_in_the_file_before_the_log_is_closed(path: Path) -> None:
    with MetricsLog(path) as log:
        log.append(1, {"a": 1.0})
        assert read_metrics(path) == [MetricsLine(1, {"a": 1.0})]


def test_opening_again_appends(path: Path) -> None:
    for step in (0, 1):
        with MetricsLog(path) as log:
            log.append(step, {})
    assert read_metrics(path) == [MetricsLine(0, {}), MetricsLine(1, {})]


def test_a_file_torn_at_any_byte_yields_its_whole_lines(path: Path) -> None:
    content = b'{"step": 0, "a": 1}\n{"step": 1, "a": 2}\n'
    first = content.index(b"\n") + 1
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        whole = (size >= first) + (size == len(content))
        assert [line.step for line in read_metrics(path)] == [0, 1][:whole]


def test_an_absent_file_holds_no_lines(path: Path) -> None:
    assert read_metrics(path) == []


@pytest.mark.parametrize("line", ["{", "[1]", '{"a": 1}', '{"step": 1.5}', '{"step": true}'])
def test_a_broken_line_in_the_middle_is_named(path: Path, line: str) -> None:
    path.write_text(f'{{"step": 0}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(UnusableInputError, match=r"metrics\.jsonl:2: each line must be"):
        read_metrics(path)


def test_dropping_keeps_the_bytes_of_earlier_lines(path: Path) -> None:
    path.write_text('{"step": 0,   "a": 1.50}\n{"step": 1}\n{"step": 2}\n{"step')
    drop_metrics_after(path, last_step=1)
    assert path.read_text() == '{"step": 0,   "a": 1.50}\n{"step": 1}\n'


def test_a_full_disk_leaves_the_earlier_lines_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def write_three_bytes_then_fail(descriptor: int, content: bytes) -> int:
        if len(content) < 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[:3])

    with MetricsLog(path) as log:
        log.append(0, {"a": 1})
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write_three_bytes_then_fail)
            with pytest.raises(RunAbortedError, match=r"step 1 could not be recorded.*No space"):
                log.append(1, {"a": 2})
        log.append(1, {"a": 3})
    assert path.read_text() == '{"step": 0, "a": 1}\n{"step": 1, "a": 3}\n'

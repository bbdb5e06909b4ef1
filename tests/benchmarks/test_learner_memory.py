"""What the benchmark of a GPU does, on a CPU: all but the reading of a GPU's memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import report
from benchmarks.forest import make_model
from benchmarks.learner_memory import (
    DEVICE,
    SHAPES,
    Child,
    Setting,
    before_optimizer_steps,
    compare_gradients,
    computed_gib,
    distance,
    run,
    settings,
    trace,
)

ROOT = Path(__file__).resolve().parents[2]


def test_a_trace_is_as_long_as_it_is_named() -> None:
    episode, sibling = trace(2048)
    (timeline,) = episode.timelines
    assert len(timeline.token_ids) == 2048
    assert [(span.start, span.stop) for span in timeline.spans] == [(896, 1024), (1920, 2048)]
    assert episode.reward != sibling.reward


def test_every_setting_has_a_name_of_its_own_and_a_known_shape() -> None:
    names = [setting.name for setting in settings()]
    assert len(names) == len(set(names))
    assert {setting.shape for setting in settings()} <= set(SHAPES)
    assert all(setting.contexts == tuple(sorted(setting.contexts)) for setting in settings())


@pytest.mark.parametrize(
    ("dtype", "adapters", "bytes_computed"),
    [("float32", 0, 16), ("bfloat16", 0, 18), ("float32", 10, 8), ("bfloat16", 10, 4)],
)
def test_what_is_computed_follows_the_documentation(
    dtype: str, adapters: int, bytes_computed: int
) -> None:
    model = make_model(hidden=64, layers=1, context=64)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    of_adapters = {"float32": 16, "bfloat16": 18}[dtype] * adapters
    computed = computed_gib(model, dtype=dtype, adapters=adapters) * 2**30
    assert computed == pytest.approx(bytes_computed * parameters + of_adapters)


def test_the_distance_is_that_of_the_worst_and_of_all() -> None:
    found = [torch.tensor([3.0]), torch.tensor([0.0, 5.0])]
    reference = [torch.tensor([4.0]), torch.tensor([0.0, 5.0])]
    assert distance(found, reference) == {
        "relative": pytest.approx(1 / 41**0.5),
        "relative_worst": pytest.approx(1 / 4),
    }


def test_optimizers_are_seen_before_their_steps_and_only_inside() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    weight.grad = torch.tensor([1.0])
    seen: list[float] = []
    optimizer = torch.optim.SGD([weight], lr=0.5)
    with before_optimizer_steps(lambda _: seen.append(weight.item())):
        optimizer.step()
    optimizer.step()
    assert seen == [1.0]


def test_gradients_of_all_ways_agree_on_a_cpu() -> None:
    model = make_model(hidden=64, layers=1, context=4096)
    found = dict(compare_gradients(model, device="cpu"))
    assert not [name for name, result in found.items() if "failed" in result]
    coarse = {name for name in found if "bfloat16" in name}
    assert all(found[name]["relative"] < 1e-5 for name in found.keys() - coarse)
    assert all(1e-5 < found[name]["relative"] < 0.05 for name in coarse)


def test_a_way_that_fails_is_told_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("no such kernel\nmore of it")

    monkeypatch.setattr("benchmarks.learner_memory.ProcessRanks", refuse)
    model = make_model(hidden=64, layers=1, context=4096)
    found = dict(compare_gradients(model, device="cpu"))
    failed = {name: result["failed"] for name, result in found.items() if "failed" in result}
    assert failed == {
        "rows, one rank against one process": "RuntimeError: no such kernel | more of it"
    }


def test_settings_are_measured_one_after_the_other_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    first = Setting(
        shape="two layers", dtype="float32", layout="rows", contexts=(1024,), group=False
    )
    second = Setting(
        shape="two layers",
        dtype="bfloat16",
        layout="forest",
        lora_rank=2,
        checkpointing=True,
        contexts=(1024,),
        group=False,
    )
    figures: dict[str, Any] = {"settings": {}}
    run(
        [first.name, second.name],
        {first.name: first, second.name: second},
        tmp_path / "models",
        figures,
        end=time.monotonic() + 600,
        keep=True,
        device="cpu",
    )
    kept = json.loads((tmp_path / "results" / "learner_memory.json").read_text())
    assert kept["figures"] == figures
    for name in (first.name, second.name):
        found = figures["settings"][name]
        assert list(found) == ["start", "trace 1024"]
        # The trace, and its sibling of ten tokens; the last of each is not fed.
        assert found["trace 1024"]["fed_tokens"] == 1023 + 9
        assert found["trace 1024"]["trained_tokens"] == 128 + 2
        assert found["trace 1024"]["step_s"] > 0
    assert figures["settings"][first.name]["start"]["adapter_parameters"] == 0
    assert figures["settings"][second.name]["start"]["adapter_parameters"] > 0


def test_a_process_that_dies_early_is_told(tmp_path: Path) -> None:
    setting = Setting(shape="two layers", dtype="float32", layout="rows")
    with Child(setting, tmp_path / "absent", device="cpu") as child:
        assert list(child.results()) == [("process", {"failed": "ended with exit status 1"})]


def test_what_there_is_no_time_for_is_named(tmp_path: Path) -> None:
    setting = Setting(shape="two layers", dtype="float32", layout="rows", contexts=(1024,))
    figures: dict[str, Any] = {"settings": {}}
    run(
        [setting.name],
        {setting.name: setting},
        tmp_path,
        figures,
        end=time.monotonic() - 1,
        keep=False,
        device="cpu",
    )
    assert figures == {"settings": {}, "left_out": [setting.name]}


@pytest.mark.skipif(torch.cuda.is_available(), reason=f"measures {DEVICE}")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.learner_memory"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout.count("\n") == 1
    assert "needs CUDA" in done.stdout

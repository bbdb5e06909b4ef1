"""Training on a real Ray of two nodes: the run of one process, whatever dies on the way."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from astuner_rl import replay, train

LOOP = logging.getLogger("astuner_rl.backbones.loop")
# Episodes long enough that a kill hits some, and no more steps than it takes.
SHORT = ("train.steps=2", "eval.tasks=1", "rollout.max_tokens=16", "checkpoint.keep=3")


@contextmanager
def at_phase(phase: str, action: Callable[[], None]) -> Iterator[None]:
    """Do something when the loop comes to a phase."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == phase:
                action()

    handler = Handler()
    level = LOOP.level
    LOOP.addHandler(handler)
    LOOP.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        LOOP.removeHandler(handler)
        LOOP.setLevel(level)


@pytest.mark.parametrize(
    "chosen", [["algo=grpo"], ["algo=ppo"], ["overlap.max_staleness=1", "train.steps=3"]]
)
def test_a_run_on_ray_is_the_run_in_one_process(
    toy: Any, nodes: Any, tmp_path: Path, chosen: list[str]
) -> None:
    settings = [*SHORT, *chosen]
    whole = toy.expected(*settings)
    spread = nodes.settings("backbone.strategy=SPREAD")
    assert toy.finish(tmp_path / "ray", *settings, *spread) == whole


def test_gsm8k_trains_on_it(toy: Any, nodes: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [
        "env=gsm8k",
        "algo=grpo",
        "model=hf",
        f"model.path={toy.hf_folder}",
        "sampler.context_length=512",
        "rollout.max_tokens=8",
        "train.steps=3",
        "train.groups=2",
        "train.group_size=2",
        "eval.tasks=2",
        "logger.mode=disabled",
        f"run.dir={run}",
    ]
    assert train.main([*settings, *nodes.settings("backbone.rollouts.count=1")]) == 0
    lines = toy.metrics(run)
    assert [(line["step"], line["run/exact"]) for line in lines] == [(n, True) for n in range(4)]
    assert all(line["tokens/sampled"] for line in lines[1:])


@pytest.mark.parametrize("samplers", [0, 2])
def test_without_rollout_workers_episodes_are_played_here(
    toy: Any, nodes: Any, tmp_path: Path, samplers: int
) -> None:
    settings = [*SHORT, "eval.every=1"]
    whole = toy.expected(*settings)
    here = nodes.settings(f"backbone.samplers.count={samplers}", "backbone.rollouts.count=0")
    toy.start(tmp_path / "ray", *settings, *here, "train.steps=1")
    assert toy.resume(tmp_path / "ray", "train.steps=2") == 0
    assert toy.outcome(tmp_path / "ray") == whole


@pytest.mark.parametrize("actor", ["SamplerActor", "RolloutActor"])
def test_actors_that_die_are_replaced_and_the_run_is_the_same(
    toy: Any, nodes: Any, tmp_path: Path, actor: str
) -> None:
    settings = [*SHORT, "algo=grpo"]
    whole = toy.expected(*settings)
    killed = []
    with at_phase("phase rollout 1", lambda: killed.append(nodes.kill(actor))):
        assert toy.finish(tmp_path / "ray", *settings, *nodes.settings()) == whole
    assert killed == [2]


def test_samplers_that_are_replaced_know_what_adapters_are_added_to(
    toy: Any, nodes: Any, tmp_path: Path
) -> None:
    settings = [*SHORT, "algo=grpo", "model.lora_rank=2"]
    whole = toy.expected(*settings)
    killed = []
    with at_phase("phase rollout 1", lambda: killed.append(nodes.kill("SamplerActor"))):
        assert toy.finish(tmp_path / "ray", *settings, *nodes.settings()) == whole
    assert killed == [2]


def test_a_learner_that_dies_ends_the_run_which_goes_on_from_its_checkpoint(
    toy: Any, nodes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SHORT, "algo=grpo"]
    whole = toy.expected(*settings)
    folder = tmp_path / "ray"
    killed = []
    with at_phase("phase rollout 1", lambda: killed.append(nodes.kill("LearnerActor"))):
        assert toy.start(folder, *settings, *nodes.settings()) == 1
    assert killed == [1]
    said = capsys.readouterr().err
    assert "error: the learner has died" in said
    assert f"the run kept step-000001, which is whole: go on with run.resume={folder}" in said
    assert toy.resume(folder, "backbone.rollouts.count=1") == 0
    assert toy.outcome(folder) == whole


# A learner of several ranks.

ALONE = ("backbone.samplers.count=1", "backbone.rollouts.count=0")


def weights(toy: Any, folder: Path) -> dict[str, Tensor]:
    """Return those of the last checkpoint."""
    return load_file(toy.checkpoints(folder)[-1] / "hf/model.safetensors")


@pytest.mark.parametrize("ranks", [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_ranks(
    toy: Any, nodes: Any, tmp_path: Path, ranks: tuple[int, int]
) -> None:
    first, second = ranks
    settings = [*SHORT, "algo=ppo"]
    toy.expected(*settings)
    whole = toy.expected_folder(*settings)
    folder = tmp_path / "ray"
    alone = nodes.settings(*ALONE, f"backbone.learner.ranks={first}")
    assert toy.start(folder, *settings, *alone, "train.steps=1") == 0
    assert toy.resume(folder, f"backbone.learner.ranks={second}", "train.steps=2") == 0
    assert [line["run/exact"] for line in toy.metrics(folder)] == [True, True, False]
    own, others = weights(toy, folder), weights(toy, whole)
    # Sums of several ranks are rounded in another order.
    assert_close(own, others, atol=1e-5, rtol=0)
    assert any(not torch.equal(own[name], others[name]) for name in own)


def test_a_rank_that_dies_ends_the_run_which_goes_on_and_is_replayed(
    toy: Any, nodes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SHORT, *nodes.settings(*ALONE, "backbone.learner.ranks=2")]
    whole = toy.finish(tmp_path / "whole", *settings)
    folder = tmp_path / "ray"
    killed = []
    with at_phase("phase learn 1", lambda: killed.append(nodes.kill("LearnerActor", most=1))):
        assert toy.start(folder, *settings) == 1
    assert killed == [1]
    said = capsys.readouterr().err
    assert "error: the learner has died" in said
    assert f"the run kept step-000001, which is whole: go on with run.resume={folder}" in said
    assert toy.resume(folder) == 0
    assert toy.outcome(folder) == whole
    capsys.readouterr()
    assert replay.main([f"run={folder}"]) == 0
    assert "step 2: weights and optimizer are the checkpoint's" in capsys.readouterr().out


def test_replies_in_flight_take_new_weights_and_the_run_can_be_replayed(
    toy: Any, nodes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ahead = ["overlap.max_staleness=1", "overlap.in_flight=true", "train.steps=3"]
    toy.finish(tmp_path / "ray", *SHORT, *ahead, *nodes.settings())
    capsys.readouterr()
    assert replay.main([f"run={tmp_path / 'ray'}"]) == 0
    assert "step 3: weights and optimizer are the checkpoint's" in capsys.readouterr().out


def test_a_run_joins_the_cluster_of_its_machine(
    toy: Any, nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which one that is, where there are several.
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    settings = [*SHORT, "algo=grpo"]
    whole = toy.expected(*settings)
    joined = nodes.settings(*ALONE, "backbone.address=auto")
    assert toy.finish(tmp_path / "ray", *settings, *joined) == whole


# Refused.


def refusal(status: int, capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert status == 2, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_an_address_where_nobody_answers_is_refused(
    toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    status = toy.start(tmp_path / "run", "backbone=ray", f"backbone.address=127.0.0.1:{port}")
    assert f"backbone.address=127.0.0.1:{port}: this machine must belong to a running Ray" in (
        refusal(status, capsys)
    )
    assert not (tmp_path / "run").exists()


def test_resources_that_the_cluster_has_not_got_are_refused(
    toy: Any, nodes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = nodes.settings("backbone.samplers.gpus=1", "backbone.placement_s=1")
    said = refusal(toy.start(tmp_path / "run", *settings), capsys)
    assert "backbone.samplers: 2 x 0.1 CPU, 1 GPU" in said
    assert "the cluster has 2 CPU, 0 GPU" in said
    assert not (tmp_path / "run").exists()


def test_imitation_has_no_place_on_ray(
    toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = toy.start(tmp_path / "run", *toy.imitation, "backbone=ray")
    assert "backbone must be local with algo=sft" in refusal(status, capsys)

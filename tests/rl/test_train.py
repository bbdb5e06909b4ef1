"""The command ``train`` as users run it: what it leaves, what a seed names, how it fails."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from astuner_rl import train
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.learning.learner import UpdateReport
from astuner_rl.learning.ppo import PpoLearner
from astuner_rl.samplers.transformers import TransformersSampler
from astuner_rl.tracing import journal
from astuner_rl.tracing.episode_log import read_episodes
from astuner_rl.types import AgentEpisode

ALGORITHMS = ("grpo", "ppo", "sft")


class Outcome(Protocol):
    """What a run left, as ``conftest.py`` compares it."""

    weights: str
    learner: str
    metrics: tuple[str, ...]
    episodes: dict[str, str]


class Runs(Protocol):
    """The fixture ``toy``."""

    hf_folder: Path
    env_folder: Path

    def of(self, algorithm: str) -> list[str]: ...
    def settings(self, *overrides: str) -> list[str]: ...
    def start(self, folder: Path, *overrides: str) -> int: ...
    def resume(self, folder: Path, *overrides: str) -> int: ...
    def finish(self, folder: Path, *overrides: str) -> Outcome: ...
    def expected(self, *overrides: str) -> Outcome: ...
    def outcome(self, folder: Path) -> Outcome: ...
    def metrics(self, folder: Path) -> list[dict[str, float | None]]: ...
    def checkpoints(self, folder: Path) -> list[Path]: ...


EVERY_LINE = {"step", "run/exact"}
EVALUATED_LINE = {
    "eval/accuracy",
    "eval/accuracy/low",
    "eval/accuracy/high",
    "eval/reward",
    "eval/reward/low",
    "eval/reward/high",
}
FED = {
    "tokens/trained",
    "tokens/forward",
    "tokens/recomputed",
    "tokens/bound",
    "tokens/dense",
}
TRAINED_LINE = {
    "reward/mean",
    "reward/writer/mean",
    "reward/critic/mean",
    "tokens/sampled",
    "tokens/duplicated",
    "tokens/unfaithful",
    *FED,
    "time/rollout_s",
    "time/learn_s",
    "time/step_s",
    "policy/kl_sampler",
    "episodes/dropped",
    "loss",
}
IMITATED_LINE = {"loss", "lr", *FED, "time/learn_s", "time/step_s"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_folder_holds_what_the_contract_names(
    toy: Runs, tmp_path: Path, algorithm: str
) -> None:
    folder = tmp_path / "run"
    assert toy.start(folder, *toy.of(algorithm), "train.steps=3") == 0

    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "episodes",
        "checkpoints",
        "report.html",
        "lock",
    }
    lines = toy.metrics(folder)
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    trained = IMITATED_LINE if algorithm == "sft" else TRAINED_LINE
    for line in lines:
        assert line.keys() >= EVERY_LINE
        assert line["step"] == 0 or trained <= line.keys()
        assert line["step"] == 1 or line.keys() >= EVALUATED_LINE
        assert line["run/exact"] is True
    evaluations = {f"step-{step:06d}-eval-eval.jsonl.gz" for step in (0, 2, 3)}
    played = {f"step-{step:06d}.jsonl.gz" for step in (1, 2, 3)}
    logs = evaluations if algorithm == "sft" else evaluations | played
    assert {path.name for path in (folder / "episodes").iterdir()} == logs
    assert [path.name for path in toy.checkpoints(folder)] == ["step-000002", "step-000003"]


def test_every_sampled_token_is_accounted_for(toy: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    toy.finish(folder, "train.steps=2", "env.trainable=[writer]")
    for line in toy.metrics(folder)[1:]:
        masked = [value for name, value in line.items() if name.startswith("tokens/masked/")]
        assert line["tokens/sampled"] == line["tokens/trained"] + sum(masked)
        assert line["tokens/masked/untrained_role"] > 0
    for log in (folder / "episodes").iterdir():
        assert {c.call.agent for e in read_episodes(log) for c in e.episode.calls} == {
            "writer",
            "critic",
        }


def test_sampler_and_learner_agree_on_every_token(toy: Runs, tmp_path: Path) -> None:
    toy.finish(tmp_path / "run")
    for line in toy.metrics(tmp_path / "run")[1:]:
        assert line["policy/logprob_gap_max"] < 1e-4
        assert line["policy/kl_sampler"] < 1e-8


def test_a_checkpoint_is_a_model_that_transformers_loads(toy: Runs, tmp_path: Path) -> None:
    toy.finish(tmp_path / "run", "train.steps=1")
    first, last = (path / "hf" for path in toy.checkpoints(tmp_path / "run"))
    weights = [AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (first, last)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert AutoTokenizer.from_pretrained(last).chat_template


def test_imitation_lowers_the_loss(toy: Runs, tmp_path: Path) -> None:
    toy.finish(tmp_path / "run", *toy.imitation, "algo.lr=1e-2", "train.steps=8", "eval.every=0")
    losses = [line["loss"] for line in toy.metrics(tmp_path / "run")[1:]]
    assert losses[-1] < 0.5 * losses[0]


def test_the_environment_that_ships_trains_on_this_model(toy: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [
        *("env=gsm8k", "algo=grpo", "model=hf", f"model.path={toy.hf_folder}", "train.steps=1"),
        *("train.groups=1", "train.group_size=2", "eval.tasks=1", "rollout.max_tokens=8"),
        *("sampler.context_length=512", "logger.mode=disabled", f"run.dir={folder}"),
    ]
    assert train.main(arguments) == 0
    names = toy.metrics(folder)[1].keys()
    # No random reply solves a problem, so no advantage gives a gradient to measure.
    assert TRAINED_LINE - {"policy/kl_sampler", "loss"} <= {
        name.replace("solver", role) for name in names for role in ("writer", "critic")
    }


def test_without_a_folder_the_run_is_named_after_what_it_is(
    toy: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(toy.settings("train.steps=0", "seed=3")) == 0
    (folder,) = (tmp_path / "runs").glob("*/*")
    assert folder.name.endswith("-custom-grpo-s3")
    assert capsys.readouterr().out == f"run: {folder}\nreport: {folder}/report.html\n"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_standard_error_holds_the_progress_and_nothing_else(
    toy: Runs, tmp_path: Path, capfd: pytest.CaptureFixture[str], algorithm: str
) -> None:
    toy.finish(tmp_path / "run", *toy.of(algorithm), "train.steps=2")
    lines = capfd.readouterr().err.splitlines()
    assert lines
    assert [line for line in lines if not line.startswith("step ")] == []


# What a seed names (invariant 7).


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_seed_names_a_run_bit_for_bit(toy: Runs, tmp_path: Path, algorithm: str) -> None:
    settings = [*toy.of(algorithm), "train.steps=3"]
    first = toy.finish(tmp_path / "first", *settings)
    torch.rand(1)  # global generators are of no account
    assert toy.finish(tmp_path / "second", *settings) == first

    other = toy.finish(tmp_path / "other", *settings, "seed=1")
    assert other.weights != first.weights
    assert other.learner != first.learner
    assert other.metrics != first.metrics


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
@pytest.mark.parametrize(
    "speed",
    [
        ("rollout.concurrency=1",),
        ("sampler.max_sessions=2",),
        ("rollout.concurrency=3", "sampler.max_sessions=5", "sampler.prefill_tokens=16"),
        ("sampler.threads=1",),
        ("sampler.threads=3",),
    ],
    ids=["one at a time", "two cached", "odd numbers", "one thread", "three threads"],
)
def test_no_setting_of_speed_changes_a_bit(
    toy: Runs, tmp_path: Path, algorithm: str, speed: tuple[str, ...]
) -> None:
    settings = [*toy.of(algorithm), "train.steps=2", "train.group_size=3"]
    expected = toy.expected(*settings)
    assert toy.finish(tmp_path / "run", *settings, *speed) == expected


def test_a_sampler_that_is_not_exact_makes_the_run_inexact(
    toy: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransformersSampler, "exact", False)
    toy.finish(tmp_path / "run", "train.steps=0", "eval.tasks=1")
    assert [line["run/exact"] for line in toy.metrics(tmp_path / "run")] == [False]


# Input with which no run can start.


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command says that must refuse its input: one line."""
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_a_folder_that_is_in_use_is_refused(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    said = refusal(toy.settings(f"run.dir={tmp_path}"), capsys)
    assert "run.dir must name a new or an empty folder" in said
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_groups_of_one_are_refused_under_grpo_alone(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["train.group_size=1", "train.steps=1"]
    said = refusal(toy.settings(f"run.dir={tmp_path}/run", *one), capsys)
    assert "group_size must be >= 2 to centre rewards, got 1" in said
    assert toy.start(tmp_path / "run", *one, "algo=ppo") == 0


def test_a_sampler_without_weights_cannot_be_trained(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [each for each in toy.settings() if not each.startswith("sampler.")]
    endpoint = ["sampler=openai", "sampler.base_url=http://localhost:9/v1", "sampler.model=any"]
    said = refusal([*settings, *endpoint, f"run.dir={tmp_path}/run"], capsys)
    assert "set sampler=transformers" in said
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_not_there_is_refused(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy.start(tmp_path / "run", f"model.path={tmp_path}/nowhere") == 2
    said = capsys.readouterr().err
    assert "error: model.path must be the hub id or folder of a causal language model" in said
    assert f"got '{tmp_path}/nowhere'" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("", "tasks.jsonl: task data must hold at least one record"),
        ('{"question": "1?", "answer": "#### 1"}\n{"question": ', "tasks.jsonl:2: each line must"),
        ('{"question": "1?"}\n', "tasks.jsonl:1: field 'answer' is missing"),
        ('{"question": " ", "answer": "1"}\n', "tasks.jsonl:1: field 'question' must be non-empty"),
        ("[1, 2]\n", "tasks.jsonl:1: each line must be a JSON object, got list"),
        (None, "tasks.jsonl: task data must be a readable UTF-8 JSONL file"),
    ],
)
def test_task_data_that_is_malformed_is_named_by_file_line_and_field(
    toy: Runs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    where: str,
) -> None:
    path = tmp_path / "tasks.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    model = ["model=hf", f"model.path={toy.hf_folder}", f"run.dir={tmp_path}/run"]
    assert where in refusal(["env=gsm8k", f"env.tasks.path={path}", *model], capsys)
    assert not (tmp_path / "run").exists()


def test_a_field_that_only_the_workflow_misses_names_its_task(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"problem": "1?"}\n', encoding="utf-8")
    tasks = [f"env.tasks.path={path}", "env.tasks.eval_path=null"]
    assert toy.start(tmp_path / "run", *tasks) == 2
    said = capsys.readouterr().err
    assert "error: task tasks-0: field 'question' must be text, got None" in said
    assert "Traceback" not in said


def test_conversations_that_are_malformed_are_named_by_record(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text('{"messages": []}\n{"text": "no messages"}\n', encoding="utf-8")
    settings = toy.settings(*toy.imitation, f"algo.path={path}", f"run.dir={tmp_path}/run")
    assert "talk.jsonl: record 2 must hold messages" in refusal(settings, capsys)


# Failures of a run that has started.


def test_ray_that_is_not_installed_is_named_with_its_extra(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "find_spec", lambda name: None)
    assert toy.start(tmp_path / "run", "backbone=ray") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "backbone=ray needs Ray" in said
    assert "pip install '.[ray]'" in said


def failure(status: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the message of a run that failed: no traceback, and one error."""
    said = capsys.readouterr().err
    assert status == 1, said
    assert "Traceback" not in said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return error


def test_a_context_that_holds_no_prompt_ends_the_run_at_its_first_step(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = toy.start(tmp_path / "run", "sampler.context_length=4", "rollout.max_tokens=2")
    said = failure(status, capsys)
    assert "step 1: at least one episode must reach its end" in said
    assert "raise sampler.context_length" in said
    (line,) = toy.metrics(tmp_path / "run")
    assert (line["eval/episodes"], line["eval/dropped"]) == (2, 2)


def test_a_context_that_fills_up_truncates_the_episode(toy: Runs, tmp_path: Path) -> None:
    toy.finish(tmp_path / "run", "train.steps=1", "sampler.context_length=26")
    line = toy.metrics(tmp_path / "run")[1]
    assert line["episodes/truncated"] > 0
    assert line["episodes/dropped"] == 0


@pytest.mark.parametrize("algorithm", ["grpo", "ppo", "sft"])
def test_weights_that_are_no_numbers_end_the_run(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], algorithm: str
) -> None:
    model = AutoModelForCausalLM.from_pretrained(toy.hf_folder)
    poison(model.state_dict())
    model.save_pretrained(tmp_path / "nan")
    AutoTokenizer.from_pretrained(toy.hf_folder).save_pretrained(tmp_path / "nan")
    capsys.readouterr()

    status = toy.start(tmp_path / "run", *toy.of(algorithm), f"model.path={tmp_path}/nan")
    assert "error: logits must be finite to sample from" in failure(status, capsys)
    assert toy.checkpoints(tmp_path / "run") == []


def poison(weights: Mapping[str, torch.Tensor]) -> None:
    """Make every logit NaN by one weight, in place."""
    with torch.no_grad():
        weights["model.layers.0.mlp.up_proj.weight"][0, 0] = torch.nan


@pytest.mark.parametrize(("algorithm", "learner"), [("grpo", GrpoLearner), ("ppo", PpoLearner)])
def test_a_loss_that_is_no_number_ends_the_run_with_the_last_checkpoint_whole(
    toy: Runs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    learner: type[GrpoLearner] | type[PpoLearner],
) -> None:
    whole = toy.expected(*toy.of(algorithm))
    folder = tmp_path / "run"
    update = learner.update

    def poisoned_at_step_3(self: Any, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        if episodes[0].episode.step == 2:
            poison(self.weights())
        return update(self, episodes)

    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(learner, "update", poisoned_at_step_3)
        status = toy.start(folder, *toy.of(algorithm))
    assert "loss and gradient norm must be finite, got loss nan" in failure(status, capsys)
    assert [line["step"] for line in toy.metrics(folder)] == [0, 1, 2]

    assert toy.resume(folder) == 0
    assert toy.outcome(folder) == whole


def test_a_learning_rate_that_blows_up_the_weights_ends_the_run_with_the_last_checkpoint_whole(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    status = toy.start(folder, *toy.imitation, "algo.lr=1e30", "eval.every=0")
    assert "loss and gradient norm must be finite" in failure(status, capsys)
    steps = len(toy.metrics(folder)) - 1
    assert toy.checkpoints(folder)[-1].name == f"step-{steps:06d}"


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let the kernel refuse to write more than ``size`` bytes to a file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("room", "rule"),
    [
        (100, "a run must be able to read and write its files"),
        (None, "step 3 could not be recorded"),
        (100_000, "a checkpoint must be written whole, got SafetensorError"),
        (300_000, "a checkpoint must be written whole, got RuntimeError"),
    ],
    ids=["settings", "metrics", "model", "learner"],
)
def test_a_disk_that_is_full_ends_the_run_and_what_was_kept_is_gone_on_with(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], room: int | None, rule: str
) -> None:
    whole = toy.expected()
    folder = tmp_path / "run"
    toy.finish(folder, "train.steps=2")
    capsys.readouterr()

    recorded = (folder / "metrics.jsonl").stat().st_size
    with no_file_larger_than(recorded + 100 if room is None else room):
        status = toy.resume(folder, "train.steps=4")
    assert rule in failure(status, capsys)
    assert toy.checkpoints(folder)[-1].name == "step-000002"
    assert not list((folder / "checkpoints").glob(".partial-*"))

    assert toy.resume(folder, "train.steps=4") == 0
    assert toy.outcome(folder) == whole


def test_a_disk_that_fills_up_while_episodes_are_written_ends_the_run(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = toy.expected()
    write = journal.write_episodes

    def full_at_step_3(path: Path, episodes: list[object]) -> None:
        if "step-000003" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, episodes)

    folder = tmp_path / "run"
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(journal, "write_episodes", full_at_step_3)
        status = toy.start(folder)
    said = failure(status, capsys)
    assert "the episodes of step 3 could not be kept" in said
    assert "No space left on device" in said
    assert [line["step"] for line in toy.metrics(folder)] == [0, 1, 2]

    assert toy.resume(folder) == 0
    assert toy.outcome(folder) == whole


def test_a_report_that_cannot_be_written_is_a_warning(
    toy: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: object, **settings: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(train, "write_report", broken)
    assert toy.start(tmp_path / "done", "train.steps=0") == 0
    said = capsys.readouterr()
    assert "warning: " in said.err
    assert said.out == f"run: {tmp_path}/done\n"

    # Nor does it hide why a run failed.
    narrow = ["sampler.context_length=4", "rollout.max_tokens=2"]
    assert toy.start(tmp_path / "failed", *narrow) == 1
    said = capsys.readouterr()
    assert "warning: " in said.err
    assert "error: step 1:" in said.err

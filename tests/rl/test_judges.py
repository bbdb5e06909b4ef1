"""Judges by config: what composes, what is refused, and runs that learn from them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError
from astuner_gym.judge import FunctionJudge, Judge
from astuner_gym.judging.comparison import ComparingJudge
from astuner_gym.judging.composition import WeightedSum
from astuner_gym.judging.llm import LlmJudge
from astuner_gym.judging.model import JudgeModel
from astuner_gym.judging.rubric import Criterion, Rubric, RubricJudge, rubric_yaml
from astuner_gym.task import JsonValue, Task
from astuner_gym.testing.chat_server import ChatServer
from astuner_gym.workflow import WorkflowResult
from astuner_rl.assembly import build_environment
from astuner_rl.composition import compose_experiment, config_yaml
from astuner_rl.config import ComposedJudgeConfig
from astuner_rl.judges import open_judge, with_judge
from astuner_rl.tracing.episode_log import read_episodes
from astuner_rl.types import EpisodeStatus
from tests.rl.conftest import ToyRuns

SERVER = ["judge.base_url=http://localhost:1/v1", "judge.model=m"]
PARTS = "judge.parts={solved: {judge: env}, short: {judge: length, limit: 4, weight: 0.5}}"


def environment_of(*overrides: str) -> Environment:
    config = compose_experiment(overrides)
    return with_judge(build_environment(config), config, open_judge(config).model)


def judge_of(*overrides: str) -> Judge:
    return environment_of(*overrides).judge


def test_a_model_a_comparison_and_a_rubric_are_judges(tmp_path: Path) -> None:
    assert isinstance(judge_of("judge=llm", *SERVER), LlmJudge)
    compared = environment_of("judge=llm", "judge.mode=pairwise", *SERVER)
    assert isinstance(compared.group_judge, ComparingJudge)
    assert not isinstance(compared.judge, LlmJudge)  # held-out tasks keep their own judge
    path = tmp_path / "rubric.yaml"
    rubric = Rubric(criteria=(Criterion(name="unit", question="Is there a unit?"),))
    path.write_text(rubric_yaml(rubric), encoding="utf-8")
    assert isinstance(judge_of("judge=rubric", f"judge.path={path}", *SERVER), RubricJudge)


def test_an_environment_may_ask_a_model_in_its_own_way() -> None:
    own = FunctionJudge(lambda task, result: 1.0)
    asked: list[JudgeModel] = []

    def by_model(model: JudgeModel) -> Judge:
        asked.append(model)
        return own

    environment = replace(build_environment(compose_experiment([])), judge_by_model=by_model)
    config = compose_experiment(["judge=llm", *SERVER])
    assert with_judge(environment, config, open_judge(config).model).judge is own
    assert len(asked) == 1
    shown = compose_experiment(["judge=llm", "judge.reference=answer", *SERVER])
    with pytest.raises(SettingError, match=r"judge\.reference is shown by the general judge"):
        with_judge(environment, shown, open_judge(shown).model)
    other = compose_experiment(["judge=llm", "judge.criteria=It is short.", *SERVER])
    assert isinstance(with_judge(environment, other, open_judge(other).model).judge, LlmJudge)


@pytest.mark.parametrize(
    ("output", "reward"), [("#### 4", 1 - 0.25), ("#### 5", -0.25), ("four", 0.0)]
)
def test_a_sum_is_made_of_its_parts(output: JsonValue, reward: float) -> None:
    judge = judge_of("judge=composed", PARTS)
    task = Task(id="t", record={"question": "2+2?", "answer": "#### 4"})
    score = asyncio.run(judge.score(task, WorkflowResult(output=output)))
    assert score.reward("solver") == pytest.approx(reward)
    assert sorted(score.metrics) == ["short", "solved", "solved/answered"]


def test_a_part_may_be_changed_by_its_name() -> None:
    config = compose_experiment(["judge=composed", PARTS, "judge.parts.short.weight=2"]).judge
    assert isinstance(config, ComposedJudgeConfig)
    assert [(name, part.weight) for name, part in config.parts.items()] == [
        ("solved", 1.0),
        ("short", 2.0),
    ]


def test_a_run_goes_on_with_its_sum(tmp_path: Path) -> None:
    config = compose_experiment(["judge=composed", PARTS])
    (tmp_path / "config.yaml").write_text(config_yaml(config), encoding="utf-8")
    resumed = compose_experiment([f"run.resume={tmp_path}"])
    assert resumed.judge == config.judge


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["judge=llm"], r"set judge\.base_url=<address>"),
        (["judge=llm", "judge.base_url=h", "judge.model=m"], r"judge\.base_url must be an http"),
        (["judge=llm", "judge.mode=listwize", *SERVER], r"judge\.mode must be one of pointwise"),
        (["judge=llm", "judge.attacks=none", *SERVER], r"judge\.attacks must be one of lowest"),
        (["judge=llm", "judge.success_at=2", *SERVER], r"judge\.success_at must be between"),
        (["judge=llm", "judge.criteria=''", *SERVER], r"judge\.criteria must say"),
        (["judge=rubric", *SERVER], r"judge\.path must be set"),
        (["judge=composed"], r"judge\.parts must name at least one part"),
        (["judge=composed", "judge.parts={a: {judge: env}}", "judge.success=b"], "one of a, got"),
        (["judge=composed", "judge.parts={a: {judge: length}}"], "needs limit"),
        (["judge=composed", "judge.parts={a: {judge: format}}"], "needs pattern"),
        (["judge=composed", "judge.parts={a: {judge: function}}"], "needs function"),
        (["judge=composed", "judge.parts={a: {judge: rubric}}"], "needs path"),
        (["judge=composed", "judge.parts={a: {judge: llm}}"], r"set judge\.base_url=<address>"),
        (["judge=composed", "judge.parts={a: {judge: luck}}"], "must be one of env, function"),
        (
            ["judge=composed", "judge.parts={a: {function: f.py:g}}"],
            r"function is a setting of parts with judge=function, .* judge=env; set",
        ),
        (["judge=composed", "judge.parts={a: {judge: rubric, criteria: c}}"], "needs path"),
        (["judge=composed", "judge.parts={a: {judge: env, criteria: c}}"], "with judge=llm"),
        (["judge=composed", "judge.parts={a: {judge: env, agents: []}}"], "must name an agent"),
        (["judge=composed", "judge.parts={a: {judge: env, weight: nan}}"], "must be finite"),
        (["judge=composed", "judge.parts={gate: {judge: env}}"], "other than 'gate', got 'gate'"),
        (["judge=composed", "judge.parts={a/b: {judge: env}}"], "must have a name of letters"),
        (["judge=composed", "judge.parts={a: {wait: 1}}"], r"no setting judge\.parts\.a\.wait"),
    ],
)
def test_settings_that_break_a_rule_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        compose_experiment(overrides)


def test_a_part_counts_for_agents_that_there_are() -> None:
    parts = "judge.parts={{a: {{judge: env, agents: [{}]}}}}"
    named = judge_of("judge=composed", parts.format("solver"))
    assert isinstance(named, WeightedSum)
    with pytest.raises(SettingError, match=r"a\.agents must be among solver, got sover"):
        judge_of("judge=composed", parts.format("sover"))


def test_only_judges_that_ask_a_server_are_checked_and_not_exact() -> None:
    by_rule = open_judge(compose_experiment(["judge=composed", PARTS]))
    by_model = open_judge(compose_experiment(["judge=llm", *SERVER]))
    assert (by_rule.model, by_rule.exact, by_model.exact) == (None, True, False)
    asyncio.run(by_rule.check())
    with pytest.raises(SettingError, match=r"judge\.base_url must be the address of an API"):
        asyncio.run(by_model.check())


def score_it(messages: Sequence[Mapping[str, str]]) -> str:
    return f"Score: {sum(map(ord, messages[1]['content'])) % 11}"


def prefer_it(messages: Sequence[Mapping[str, str]]) -> str:
    return f"Ranking: {', '.join('12' if '3' in messages[1]['content'] else '21')}"


@pytest.mark.parametrize(
    ("mode", "answer", "figure"),
    [
        ("pointwise", score_it, "judge/attack"),
        ("listwise", prefer_it, "judge/group/attack"),
    ],
)
def test_a_run_learns_from_a_models_verdicts_and_is_not_exact(
    toy: ToyRuns,
    tmp_path: Path,
    mode: str,
    answer: Callable[[Sequence[Mapping[str, str]]], str],
    figure: str,
) -> None:
    with ChatServer(answer) as server:
        settings = [f"judge.base_url={server.url}", "judge.model=m", f"judge.mode={mode}"]
        run = tmp_path / "run"
        assert toy.start(run, "judge=llm", "judge.attacks=flag", "train.steps=2", *settings) == 0
    assert server.requests
    lines = toy.metrics(run)
    assert lines[-1]["run/exact"] is False
    assert figure in lines[-1]
    assert lines[-1]["episodes/dropped"] == 0


def test_episodes_that_nobody_can_judge_are_dropped_with_the_reason(
    toy: ToyRuns, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with ChatServer(lambda messages: "I like it.") as server:
        settings = [f"judge.base_url={server.url}", "judge.model=m", "judge.attempts=1"]
        assert toy.start(run, "judge=llm", "judge.attacks=flag", *settings) == 1
    (log,) = (run / "episodes").glob("step-000000-eval-eval.jsonl*")
    episodes = [logged.episode for logged in read_episodes(log)]
    assert episodes
    for episode in episodes:
        assert (episode.status, episode.rewards) == (EpisodeStatus.FAILED, {})
        assert episode.reason.startswith("JudgeError: m at http://127.0.0.1:")
        assert "the last line must be 'Score: N'" in episode.reason


@pytest.mark.parametrize(("mode", "answer"), [("pointwise", score_it), ("listwise", prefer_it)])
def test_a_run_that_goes_on_asks_no_more_than_its_steps_need(
    toy: ToyRuns,
    tmp_path: Path,
    mode: str,
    answer: Callable[[Sequence[Mapping[str, str]]], str],
) -> None:
    run = tmp_path / "run"
    ahead = ["overlap.max_staleness=1", "checkpoint.keep=9", "judge.attacks=flag"]
    with ChatServer(answer) as server:
        settings = ["judge=llm", "judge.model=m", f"judge.mode={mode}", *ahead]
        assert toy.start(run, f"judge.base_url={server.url}", *settings) == 0
    for checkpoint in toy.checkpoints(run)[3:]:
        shutil.rmtree(checkpoint)  # as if it had been killed after step 2, with batch 3 played
    # A server may have moved: where it is has no part in what a run is.
    with ChatServer(answer) as server:
        assert toy.resume(run, f"judge.base_url={server.url}") == 0
    # Two questions a group, of two batches of two groups; what was judged by itself is kept, so
    # that only the four episodes of the last batch and the two that are held out remain.
    assert 0 < len(server.requests) <= {"listwise": 8, "pointwise": 6}[mode]

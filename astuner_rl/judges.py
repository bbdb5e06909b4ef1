"""From the settings of a judge to the judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from astuner_gym.environment import Environment
from astuner_gym.judge import Judge
from astuner_gym.judging.brief import CRITERIA, AttackPolicy, Brief
from astuner_gym.judging.comparison import ComparingJudge, Listwise, Pairwise
from astuner_gym.judging.composition import Part, PerAgent, WeightedSum
from astuner_gym.judging.endpoint import ChatEndpoint
from astuner_gym.judging.llm import LlmJudge
from astuner_gym.judging.model import JudgeModel
from astuner_gym.judging.penalties import FormatPenalty, LengthPenalty, RepetitionPenalty
from astuner_gym.judging.rubric import RubricJudge, read_rubric
from astuner_rl.config import (
    AskingJudgeConfig,
    ComposedJudgeConfig,
    ExperimentConfig,
    FunctionJudgeConfig,
    JudgeMode,
    JudgePart,
    JudgePartConfig,
    LlmJudgeConfig,
    RubricJudgeConfig,
)
from astuner_rl.custom import load_judge


def with_judge(environment: Environment, config: ExperimentConfig) -> Environment:
    """Return the environment with the judge that the settings name.

    Raises:
        SettingError: A function or rubric cannot be loaded, or a part of a sum breaks a rule.
    """
    judge = config.judge
    if isinstance(judge, FunctionJudgeConfig):
        return replace(environment, judge=load_judge("judge.function", judge.function))
    if isinstance(judge, LlmJudgeConfig):
        return _with_llm_judge(environment, judge)
    if isinstance(judge, RubricJudgeConfig):
        rubric = read_rubric(Path(judge.path))
        asking = RubricJudge(ChatEndpoint(judge), rubric=rubric, brief=_brief(judge))
        return replace(environment, judge=asking)
    if isinstance(judge, ComposedJudgeConfig):
        return replace(environment, judge=_composed(environment, judge))
    return environment


def asks_endpoint(config: ExperimentConfig) -> bool:
    """Return whether the judge asks a server, whose answers no second run need get."""
    judge = config.judge
    if isinstance(judge, ComposedJudgeConfig):
        return judge.asks
    return isinstance(judge, AskingJudgeConfig)


async def check_judge(config: ExperimentConfig) -> None:
    """Find out whether the judge's server answers, if it asks one.

    Raises:
        SettingError: It does not answer, refuses, or is no such server.
    """
    if asks_endpoint(config):
        # A client of its own: connections belong to the event loop that made them.
        endpoint = ChatEndpoint(config.judge)
        try:
            await endpoint.check()
        finally:
            await endpoint.close()


def _with_llm_judge(environment: Environment, config: LlmJudgeConfig) -> Environment:
    endpoint = ChatEndpoint(config)
    brief = _brief(config, criteria=config.criteria)
    match JudgeMode(config.mode):
        case JudgeMode.PAIRWISE:
            pairs = Pairwise(endpoint, brief=brief)
            return replace(environment, group_judge=ComparingJudge(pairs, brief=brief))
        case JudgeMode.LISTWISE:
            lists = Listwise(endpoint, brief=brief)
            return replace(environment, group_judge=ComparingJudge(lists, brief=brief))
        case JudgeMode.POINTWISE:
            if config.criteria is None and environment.judge_by_model is not None:
                return replace(environment, judge=environment.judge_by_model(endpoint))
            asking = LlmJudge(endpoint, brief=brief, success_at=config.success_at)
            return replace(environment, judge=asking)


def _composed(environment: Environment, config: ComposedJudgeConfig) -> Judge:
    # One endpoint for all: its answers are kept once and its concurrency holds for all parts.
    endpoint = ChatEndpoint(config) if config.asks else None
    parts = {}
    for name, part in config.parts.items():
        judge = _part(name, part, environment, config, endpoint)
        parts[name] = Part(
            judge=PerAgent(judge) if part.per_agent else judge,
            weight=part.weight,
            agents=part.agents,
            least=part.least,
        )
    return WeightedSum(parts, success=config.success, closed=config.closed)


def _part(
    name: str,
    part: JudgePartConfig,
    environment: Environment,
    config: ComposedJudgeConfig,
    endpoint: JudgeModel | None,
) -> Judge:
    match JudgePart(part.judge):
        case JudgePart.ENV:
            return environment.judge
        case JudgePart.FUNCTION:
            assert part.function is not None
            return load_judge(f"judge.parts.{name}.function", part.function)
        case JudgePart.LLM:
            assert endpoint is not None
            if part.criteria is None and environment.judge_by_model is not None:
                return environment.judge_by_model(endpoint)
            return LlmJudge(endpoint, brief=_brief(config, criteria=part.criteria))
        case JudgePart.RUBRIC:
            assert endpoint is not None
            assert part.path is not None
            return RubricJudge(endpoint, rubric=read_rubric(Path(part.path)), brief=_brief(config))
        case _:
            return _penalty(part)


def _penalty(part: JudgePartConfig) -> Judge:
    match JudgePart(part.judge):
        case JudgePart.LENGTH:
            assert part.limit is not None
            return LengthPenalty(limit=part.limit)
        case JudgePart.FORMAT:
            assert part.pattern is not None
            return FormatPenalty(pattern=part.pattern)
        case _:
            return RepetitionPenalty(words=part.words)


def _brief(config: AskingJudgeConfig, *, criteria: str | None = None) -> Brief:
    return Brief(
        criteria=CRITERIA if criteria is None else criteria,
        question=config.question,
        reference=config.reference,
        attacks=AttackPolicy(config.attacks),
    )

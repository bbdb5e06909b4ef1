"""From the settings of a judge to the judge, and to the model that it asks, if it asks one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path

from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError
from astuner_gym.judge import Judge
from astuner_gym.judging.brief import CRITERIA, AttackPolicy, Brief
from astuner_gym.judging.comparison import ComparingJudge, Listwise, Pairwise
from astuner_gym.judging.composition import Part, PerAgent, WeightedSum
from astuner_gym.judging.endpoint import ChatEndpoint
from astuner_gym.judging.llm import LlmJudge
from astuner_gym.judging.model import JudgeModel
from astuner_gym.judging.penalties import FormatPenalty, LengthPenalty, RepetitionPenalty
from astuner_gym.judging.rubric import RubricJudge, read_rubric
from astuner_rl.assembly import open_frozen
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
    require_room,
)
from astuner_rl.custom import load_judge
from astuner_rl.learning.pretrained import load_pretrained
from astuner_rl.local_judge import LocalJudge
from astuner_rl.samplers.transformers import TransformersSamplerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJudge:
    """The model that a run's judge asks."""

    model: JudgeModel | None
    """None if the judge asks none."""
    exact: bool
    """Whether a second run of the same seed gets the same verdicts."""
    fingerprint: str
    """Of the model's weights, by which a resumed run knows it again; empty if there are none."""
    check: Callable[[], Coroutine[None, None, None]]
    """Raises SettingError if the model is a server's and nobody answers."""
    close: Callable[[], Awaitable[None]]


def open_judge(config: ExperimentConfig) -> OpenJudge:
    """Return the model that the judge of the settings asks.

    Raises:
        UnusableInputError: A model on this machine cannot be loaded, or cannot judge.
    """
    judge = config.judge
    if not _asks(judge):
        return OpenJudge(model=None, exact=True, fingerprint="", check=_nothing, close=_nothing)
    assert isinstance(judge, AskingJudgeConfig)
    if judge.model_path is not None:
        return _open_local(judge, judge.model_path, config)
    endpoint = ChatEndpoint(judge)

    async def check() -> None:
        try:
            await endpoint.check()
        finally:
            await endpoint.close()  # connections belong to the event loop that made them

    return OpenJudge(model=endpoint, exact=False, fingerprint="", check=check, close=endpoint.close)


def _asks(judge: object) -> bool:
    if isinstance(judge, ComposedJudgeConfig):
        return judge.asks
    return isinstance(judge, AskingJudgeConfig)


def _open_local(judge: AskingJudgeConfig, path: str, config: ExperimentConfig) -> OpenJudge:
    pretrained = load_pretrained(path, setting="judge.model_path")
    longest: int = pretrained.model.config.get_text_config().max_position_embeddings
    context_length = min(judge.context_length, longest)
    require_room(
        judge.max_tokens,
        "judge.max_tokens",
        context_length=context_length,
        setting="the context of judge.model_path",
    )
    settings = TransformersSamplerConfig(
        context_length=context_length, max_sessions=judge.concurrency
    )
    if isinstance(config.sampler, TransformersSamplerConfig):
        settings = replace(settings, threads=config.sampler.threads)
    frozen = open_frozen(pretrained, settings)
    model = LocalJudge(
        frozen.sampler,
        frozen.renderer,
        judge,
        name=path,
        context_length=context_length,
        seed=config.seed,
    )
    return OpenJudge(
        model=model,
        exact=frozen.sampler.exact,
        fingerprint=frozen.fingerprint,
        check=_nothing,
        close=model.close,
    )


async def _nothing() -> None:
    return None


def with_judge(
    environment: Environment, config: ExperimentConfig, model: JudgeModel | None
) -> Environment:
    """Return the environment with the judge that the settings name.

    Args:
        environment: With its own judge.
        config: Names the judge.
        model: Whom it asks, of :func:`open_judge`.

    Raises:
        SettingError: A function or rubric cannot be loaded, or a part of a sum breaks a rule.
    """
    judge = config.judge
    if isinstance(judge, FunctionJudgeConfig):
        return replace(environment, judge=load_judge("judge.function", judge.function))
    if isinstance(judge, LlmJudgeConfig):
        assert model is not None
        return _with_llm_judge(environment, judge, model)
    if isinstance(judge, RubricJudgeConfig):
        assert model is not None
        rubric = read_rubric(Path(judge.path))
        return replace(environment, judge=RubricJudge(model, rubric=rubric, brief=_brief(judge)))
    if isinstance(judge, ComposedJudgeConfig):
        return replace(environment, judge=_composed(environment, judge, model))
    return environment


def _with_llm_judge(
    environment: Environment, config: LlmJudgeConfig, model: JudgeModel
) -> Environment:
    brief = _brief(config, criteria=config.criteria)
    match JudgeMode(config.mode):
        case JudgeMode.PAIRWISE:
            pairs = Pairwise(model, brief=brief)
            return replace(environment, group_judge=ComparingJudge(pairs, brief=brief))
        case JudgeMode.LISTWISE:
            lists = Listwise(model, brief=brief)
            return replace(environment, group_judge=ComparingJudge(lists, brief=brief))
        case JudgeMode.POINTWISE:
            if config.criteria is None and environment.judge_by_model is not None:
                _refuse_unshown(environment, config)
                return replace(environment, judge=environment.judge_by_model(model))
            asking = LlmJudge(model, brief=brief, success_at=config.success_at)
            return replace(environment, judge=asking)


def _refuse_unshown(environment: Environment, config: LlmJudgeConfig) -> None:
    for name, value in (("question", config.question), ("reference", config.reference)):
        if value is not None:
            raise SettingError(
                f"judge.{name} is shown by the general judge, and env={environment.name} asks in "
                f"its own way, got judge.{name}={value}; leave it out, or set judge.criteria too"
            )


def _composed(
    environment: Environment, config: ComposedJudgeConfig, model: JudgeModel | None
) -> Judge:
    parts = {}
    for name, part in config.parts.items():
        unknown = set(part.agents or ()).difference(environment.agents)
        if environment.agents and unknown:
            raise SettingError(
                f"judge.parts.{name}.agents must be among {', '.join(environment.agents)}, got "
                f"{', '.join(sorted(unknown))}; name one of them, or null for all"
            )
        judge = _part(name, part, environment, config, model)
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
    model: JudgeModel | None,
) -> Judge:
    match JudgePart(part.judge):
        case JudgePart.ENV:
            return environment.judge
        case JudgePart.FUNCTION:
            assert part.function is not None
            return load_judge(f"judge.parts.{name}.function", part.function)
        case JudgePart.LLM:
            assert model is not None
            if part.criteria is None and environment.judge_by_model is not None:
                return environment.judge_by_model(model)
            return LlmJudge(model, brief=_brief(config, criteria=part.criteria))
        case JudgePart.RUBRIC:
            assert model is not None
            assert part.path is not None
            return RubricJudge(model, rubric=read_rubric(Path(part.path)), brief=_brief(config))
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

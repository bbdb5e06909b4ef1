"""Every setting of an experiment, as one typed record; ``conf/`` chooses among its parts.

Each Hydra group (``env``, ``algo``, …) holds the dataclass of the option that was chosen, which
lives beside the class that it configures. Dataclasses check their own values when they are made,
so a record that exists is one that a run can start from.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from omegaconf import MISSING

from astuner_gym.errors import SettingError
from astuner_gym.judging.brief import CRITERIA, AttackPolicy
from astuner_gym.judging.endpoint import EndpointConfig, require_server
from astuner_rl.algos.config import GrpoConfig
from astuner_rl.backbones.config import (
    CheckpointConfig,
    EvalConfig,
    OverlapConfig,
    TrainConfig,
)
from astuner_rl.paths import absolute, absolute_reference
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rules import require_choice, require_range
from astuner_rl.samplers.transformers import TransformersSamplerConfig
from astuner_rl.samplers.vllm import VllmSamplerConfig
from astuner_rl.tracing.wandb_logger import LoggerMode


@dataclass
class RunConfig:
    """Where the run is kept."""

    dir: str | None = None
    """Run folder; null names one ``runs/<date>/<time>-<env>-<algo>-s<seed>``."""
    resume: str | None = None
    """Run folder to go on with, from its last whole checkpoint and with its settings."""

    def __post_init__(self) -> None:
        # Absolute, so that a run resumed from another folder finds the same files.
        self.dir = absolute(self.dir)
        self.resume = absolute(self.resume)


class Precision(StrEnum):
    """What a model computes in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass
class HfModelConfig:
    """A causal language model in the Hugging Face format."""

    path: str = MISSING
    """Hub id, or a folder that holds model and tokenizer."""
    dtype: str = Precision.FLOAT32.value
    """What learner and sampler compute in, ``float32`` or ``bfloat16``; optimizer, moments and sums
    of gradients are in float32 either way."""
    lora_rank: int = 0
    """Rank of the adapters that are trained in place of all weights (LoRA, extra ``lora``); 0 for
    all weights."""
    lora_alpha: int = 16
    """Adapters count ``lora_alpha / lora_rank``."""

    def __post_init__(self) -> None:
        self.path = _model_path("model.path", self.path)
        require_choice("model.dtype", self.dtype, tuple(Precision))
        require_range("model.lora_rank", self.lora_rank, low=0)
        require_range("model.lora_alpha", self.lora_alpha, low=1)


@dataclass
class OpenAISamplerConfig:
    """A server that speaks the OpenAI protocol: to evaluate and to play, never to train."""

    base_url: str = MISSING
    """Address of the API, such as ``http://localhost:8000/v1``."""
    model: str = MISSING
    """Model name that the server knows."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is no setting."""

    def __post_init__(self) -> None:
        require_server(
            "sampler.{}".format,
            base_url=self.base_url,
            model=self.model,
            api_key_env=self.api_key_env,
        )


@dataclass
class ScriptedSamplerConfig:
    """Fixed replies in place of a model: to try a workflow, never to train."""

    replies: list[str] = MISSING
    """Text of each reply of an episode, in order; after the last they begin again."""

    def __post_init__(self) -> None:
        if not self.replies:
            raise SettingError(
                "sampler.replies must hold at least one reply, got []; "
                "set \"sampler.replies=['The answer is 4.']\", say"
            )


@dataclass
class LocalBackboneConfig:
    """Sampler and learner in this process."""

    threads: int = 1
    """Intra-op threads of the learner on a CPU: more only slow a small model down."""

    def __post_init__(self) -> None:
        require_range("backbone.threads", self.threads, low=1)


@dataclass
class DebugBackboneConfig:
    """Episodes one after the other, printed call by call; nothing is learnt."""


@dataclass
class NoOpponentConfig:
    """The policy plays every role that asks a model, those that do not learn too."""


@dataclass
class HfOpponentConfig:
    """A frozen model in the Hugging Face format plays the roles that do not learn."""

    path: str = MISSING
    """Hub id, or a folder that holds model and tokenizer, such as ``<checkpoint>/hf`` of a run."""

    def __post_init__(self) -> None:
        self.path = _model_path("opponent.path", self.path)


@dataclass
class OpenAIOpponentConfig:
    """A server that speaks the OpenAI protocol plays the roles that do not learn."""

    base_url: str = MISSING
    """Address of the API, such as ``http://localhost:8000/v1``."""
    model: str = MISSING
    """Model name that the server knows."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is no setting."""

    def __post_init__(self) -> None:
        require_server(
            "opponent.{}".format,
            base_url=self.base_url,
            model=self.model,
            api_key_env=self.api_key_env,
        )


@dataclass
class EnvJudgeConfig:
    """The environment's own judge."""


@dataclass
class FunctionJudgeConfig:
    """A judge of the user's, in place of the environment's."""

    function: str = MISSING
    """``path.py:name`` of a function ``(task, result)`` that returns a number or a Score."""

    def __post_init__(self) -> None:
        self.function = absolute_reference("judge.function", self.function)


class JudgeMode(StrEnum):
    """How a language model judges."""

    POINTWISE = "pointwise"
    """Each answer by itself."""
    PAIRWISE = "pairwise"
    """Training episodes of a task two by two; held-out ones are judged by the environment."""
    LISTWISE = "listwise"
    """Training episodes of a task all at once; held-out ones are judged by the environment."""


@dataclass
class AskingJudgeConfig(EndpointConfig):
    """What every judge that asks a model has: a server's, or one on this machine."""

    whereabouts: ClassVar[tuple[str, ...]] = (
        "base_url",
        "api_key_env",
        "timeout_s",
        "concurrency",
        "model_path",
    )
    """Settings by which a model is found and reached: no verdict depends on them."""

    base_url: str = ""
    """Address of the API, such as ``http://localhost:8000/v1``; or set ``model_path``."""
    model: str = ""
    """Model name that the server knows."""
    model_path: str | None = None
    """Hub id or folder of a frozen model, asked in this process in place of a server's; then
    ``base_url``, ``model``, ``api_key_env`` and ``timeout_s`` are of no use."""
    context_length: int = 4096
    """Of the model at ``model_path``: tokens of a question and its answer, at most, and never more
    than the model's own. A server has its own limit."""
    question: str | None = None
    """Field of the task that says what was asked; null shows the judge the whole record."""
    reference: str | None = None
    """Field of the task that holds a right answer; null shows the judge none."""
    attacks: str = AttackPolicy.LOWEST.value
    """``lowest`` gives an answer that aims at the judge the lowest reward unseen; ``flag`` only
    counts it as ``judge/attack``."""

    def __post_init__(self) -> None:
        require_choice("judge.attacks", self.attacks, tuple(AttackPolicy))
        if self.model_path is None:
            if not self.base_url:
                raise SettingError(
                    "a judge that asks a model must know which, got none; set judge.base_url="
                    "<address> judge.model=<name>, or judge.model_path=<hub id or folder>"
                )
            self.check_server()
        else:
            if self.base_url or self.model:
                raise SettingError(
                    "judge.model_path is asked in place of a server, got judge.base_url="
                    f"{self.base_url!r} judge.model={self.model!r} as well; leave one of them out"
                )
            self.model_path = _model_path("judge.model_path", self.model_path)
            require_room(
                self.max_tokens,
                "judge.max_tokens",
                context_length=self.context_length,
                setting="judge.context_length",
            )
        self.check_asking()


@dataclass
class LlmJudgeConfig(AskingJudgeConfig):
    """A language model in place of the environment's judge."""

    mode: str = JudgeMode.POINTWISE.value
    """``pointwise``, or a comparison with the other episodes of the task: ``pairwise`` asks about
    every pair, ``listwise`` for a ranking; both twice, with the places swapped."""
    criteria: str | None = None
    """What makes an answer good, in words; null takes the environment's own way of asking a model
    if it has one, and else plain words."""
    success_at: float = 0.5
    """Least reward of an episode that counts as solved."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("judge.mode", self.mode, tuple(JudgeMode))
        require_range("judge.success_at", self.success_at, low=0.0, high=1.0)
        if self.criteria is not None and not self.criteria.strip():
            raise SettingError(
                f"judge.criteria must say what makes an answer good, got ''; leave it out for "
                f"{CRITERIA!r}"
            )


@dataclass
class RubricJudgeConfig(AskingJudgeConfig):
    """A rubric, of which a language model checks the criteria."""

    path: str = MISSING
    """YAML file of the rubric, as ``python -m astuner_gym.rubrics learn`` writes it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.path = absolute(self.path) or ""


class JudgePart(StrEnum):
    """What a part of a composed judge is."""

    ENV = "env"
    """The environment's own judge."""
    FUNCTION = "function"
    """A function of the user's."""
    LLM = "llm"
    """A language model."""
    RUBRIC = "rubric"
    """A rubric."""
    REPETITION = "repetition"
    """Minus the share of runs of ``words`` words that were said before."""
    LENGTH = "length"
    """From 0 at ``limit`` characters to -1 at twice as many."""
    FORMAT = "format"
    """-1 for an answer that does not match ``pattern``."""


@dataclass
class JudgePartConfig:
    """A part of a composed judge."""

    judge: str = JudgePart.ENV.value
    """``env``, ``function``, ``llm``, ``rubric``, or a penalty, whose reward is from -1 to 0:
    ``repetition``, ``length`` or ``format``."""
    weight: float = 1.0
    """Times its reward is what it adds."""
    least: float | None = None
    """Makes it a gate: who earns less than this from it gets ``judge.closed`` and nothing else."""
    agents: list[str] | None = None
    """Agents for whom it counts; null for all."""
    per_agent: bool = False
    """Whether each agent is judged by its own output, of a workflow that returns an object."""
    function: str | None = None
    """Of ``function``: ``path.py:name``."""
    path: str | None = None
    """Of ``rubric``: its YAML file."""
    criteria: str | None = None
    """Of ``llm``: what makes an answer good, in words."""
    words: int = 3
    """Of ``repetition``: words of a run."""
    limit: int | None = None
    """Of ``length``: characters that cost nothing."""
    pattern: str | None = None
    """Of ``format``: a regular expression for the whole answer."""

    def __post_init__(self) -> None:
        require_choice("judge.parts.<name>.judge", self.judge, tuple(JudgePart))
        of_one_kind = (
            (JudgePart.FUNCTION, "function", self.function),
            (JudgePart.RUBRIC, "path", self.path),
            (JudgePart.LENGTH, "limit", self.limit),
            (JudgePart.FORMAT, "pattern", self.pattern),
            (JudgePart.LLM, "criteria", self.criteria),
        )
        for kind, name, value in of_one_kind:
            if self.judge == kind and kind is not JudgePart.LLM and value is None:
                raise SettingError(
                    f"a part with judge={self.judge} needs {name}; "
                    f"set judge.parts.<name>.{name}=<value>"
                )
            if self.judge != kind and value is not None:
                raise SettingError(
                    f"{name} is a setting of parts with judge={kind}, got {name}={value!r} with "
                    f"judge={self.judge}; set judge.parts.<name>.judge={kind}, or leave it out"
                )
        if self.agents == []:
            raise SettingError(
                "judge.parts.<name>.agents must name an agent, or be null to count for all, got []"
            )
        for name, number in (("weight", self.weight), ("least", self.least)):
            if number is not None and not math.isfinite(number):
                raise SettingError(
                    f"judge.parts.<name>.{name} must be finite, got {number}; set another number"
                )
        self.path = absolute(self.path)
        if self.function is not None:
            self.function = absolute_reference("judge.parts.<name>.function", self.function)

    @property
    def asks(self) -> bool:
        """Whether it needs a model to ask."""
        return self.judge in (JudgePart.LLM, JudgePart.RUBRIC)


@dataclass
class ComposedJudgeConfig(AskingJudgeConfig):
    """A weighted sum of judges and penalties, with gates."""

    parts: dict[str, JudgePartConfig] = field(default_factory=dict)
    """By name, which is that of its figures: ``"judge.parts={solved: {judge: env}, brief: {judge:
    length, limit: 400, weight: 0.2}}"``."""
    success: str | None = None
    """Part that says whether an episode is solved; null for the first."""
    closed: float = 0.0
    """Reward of who is shut out by a gate."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise SettingError(
                "judge.parts must name at least one part, got {}; "
                'set "judge.parts={solved: {judge: env}}", say'
            )
        for name in self.parts:
            # Figures are told apart by slashes, and whether a gate was open is one of them.
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name == "gate":
                raise SettingError(
                    "a part of judge.parts must have a name of letters, digits and '_.-' other "
                    f"than 'gate', got {name!r}; rename it"
                )
        if self.success is not None and self.success not in self.parts:
            raise SettingError(
                f"judge.success must be one of {', '.join(self.parts)}, got {self.success!r}; "
                f"set judge.success={next(iter(self.parts))}"
            )
        if self.asks:
            super().__post_init__()

    @property
    def asks(self) -> bool:
        """Whether a part needs a model to ask."""
        return any(part.asks for part in self.parts.values())


@dataclass
class LoggerConfig:
    """Weights & Biases, beside the run folder's own ``metrics.jsonl``."""

    mode: str = LoggerMode.OFFLINE.value
    """``offline`` keeps its files in the run folder, ``online`` sends them, or ``disabled``."""
    project: str = "astuner"
    """Project that the run is filed under."""
    group: str | None = None
    """Name of the sweep that the run belongs to."""

    def __post_init__(self) -> None:
        require_choice("logger.mode", self.mode, tuple(LoggerMode))


@runtime_checkable
class RefusesIdleOpponent(Protocol):
    """Settings of an environment that tell whether any role is left for an opponent."""

    def refuse_idle_opponent(self) -> None:
        """Refuse an opponent that no episode would ask.

        Raises:
            SettingError: Every role that asks a model learns; the message says how one is left.
        """
        ...


# A Hydra group holds one of many dataclasses that share no base: an installed environment's is
# the user's own. OmegaConf can state that only as Any; astuner_rl.composition lists them.
@dataclass
class ExperimentConfig:
    """One experiment."""

    env: Any = MISSING
    """The environment: an :class:`astuner_gym.environment.EnvironmentConfig`."""
    algo: Any = MISSING
    """The algorithm: advantages, loss and optimizer."""
    model: Any = MISSING
    """The policy's initial weights."""
    sampler: Any = MISSING
    """What turns prompts into tokens."""
    backbone: Any = MISSING
    """What runs where."""
    judge: Any = MISSING
    """Who scores episodes."""
    opponent: Any = MISSING
    """Who plays the roles that ask a model and do not learn."""
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    """Where metrics go besides the run folder."""
    seed: int = 0
    """Names the run: every draw is a function of it."""
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    overlap: OverlapConfig = field(default_factory=OverlapConfig)
    run: RunConfig = field(default_factory=RunConfig)
    choices: dict[str, str] = field(default_factory=dict, metadata={"omegaconf_ignore": True})
    """Name of the option chosen in each group, such as ``{"env": "gsm8k"}``; not a setting."""

    def __post_init__(self) -> None:
        require_range("seed", self.seed, low=0)
        if isinstance(self.algo, GrpoConfig):
            self.algo.require_group_size(self.train.group_size)
        if isinstance(self.sampler, TransformersSamplerConfig | VllmSamplerConfig):
            require_room(
                self.rollout.max_tokens,
                "rollout.max_tokens",
                context_length=self.sampler.context_length,
                setting="sampler.context_length",
            )
        is_named = isinstance(self.opponent, HfOpponentConfig | OpenAIOpponentConfig)
        if is_named and self.env.trainable is None:
            raise SettingError(
                "an opponent plays the roles that do not learn, and with env.trainable=null all "
                "learn; set env.trainable=[<role>, …], or opponent=none"
            )
        if is_named and isinstance(self.env, RefusesIdleOpponent):
            self.env.refuse_idle_opponent()


def require_room(max_tokens: int, name: str, *, context_length: int, setting: str) -> None:
    """Refuse a context that a reply alone fills up, so that no prompt would ever fit.

    Args:
        max_tokens: Of a reply.
        name: Of the setting of ``max_tokens``.
        context_length: Tokens of prompt and reply together, at most.
        setting: Name of the setting of ``context_length``.

    Raises:
        SettingError: ``max_tokens`` is not below ``context_length``.
    """
    if max_tokens >= context_length:
        raise SettingError(
            f"{name} must be < {setting}, which holds the prompt too, got {max_tokens} and "
            f"{context_length}; set {setting}={4 * max_tokens}"
        )


def _model_path(key: str, path: str) -> str:
    if not path.strip():
        raise SettingError(
            f"{key} must name a hub id or a folder, got ''; set {key}=<id or folder>"
        )
    folder = Path(path).expanduser()
    return str(folder.absolute()) if folder.is_dir() else path

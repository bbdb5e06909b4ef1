"""Settings of the GSM8K environment, and how they become an environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from astuner_envs.gsm8k.expert import ExpertConversations
from astuner_envs.gsm8k.judge import Gsm8kJudge
from astuner_envs.gsm8k.problems import Problems, Split
from astuner_envs.gsm8k.tasks import FIELDS, ProblemTasks, read_problems
from astuner_envs.gsm8k.workflow import AGENT, Gsm8kWorkflow
from astuner_gym.environment import DemonstrationSets, Environment
from astuner_gym.errors import SettingError
from astuner_gym.only_role import refuse_opponent_of, require_only_role
from astuner_gym.task import HubTasks, TaskSource, hold_out

SOURCES = ("generated", "hub")
TRAIN_SIZE = 100_000
HELD_OUT_SIZE = 2_000


@dataclass
class Gsm8kTasksConfig:
    """Where the problems come from."""

    path: str | None = None
    """JSONL file with ``question`` and ``answer``; overrides ``source``."""
    eval_path: str | None = None
    """JSONL file to evaluate on; without it the last tenth of ``path`` is held out."""
    source: str = "generated"
    """``generated`` (ships with the environment) or ``hub`` (openai/gsm8k)."""
    seed: int = 0
    """Seed of the generator."""

    def __post_init__(self) -> None:
        # Absolute, so that a run resumed from another folder finds the same files.
        self.path, self.eval_path = _absolute(self.path), _absolute(self.eval_path)
        if self.source not in SOURCES:
            raise SettingError(
                f"env.tasks.source must be one of {[*SOURCES]}, got {self.source!r}; "
                f"set env.tasks.source={SOURCES[0]}"
            )
        if self.eval_path is not None and self.path is None:
            raise SettingError(
                f"env.tasks.eval_path={self.eval_path} needs env.tasks.path, the tasks to train "
                "on; set env.tasks.path=<problems.jsonl>"
            )


@dataclass
class Gsm8kConfig:
    """Settings of ``env=gsm8k``."""

    name: str = "gsm8k"
    """What messages call it."""
    tasks: Gsm8kTasksConfig = field(default_factory=Gsm8kTasksConfig)
    trainable: list[str] | None = None
    """Roles that learn; null for all. The one role here is ``solver``."""
    max_calls: int = 10
    """Replies that the agent may take for one problem, tool calls included."""
    demonstration_error_rate: float = 0.35
    """Share of the demonstrations that end in a wrong answer."""

    def __post_init__(self) -> None:
        if self.max_calls < 2:
            raise SettingError(
                "env.max_calls must be >= 2, one calculation and one answer, got "
                f"{self.max_calls}; set env.max_calls=2 or more"
            )
        if not 0 <= self.demonstration_error_rate < 1:
            raise SettingError(
                "env.demonstration_error_rate must be in [0, 1), got "
                f"{self.demonstration_error_rate}; set env.demonstration_error_rate=0.35, say"
            )
        require_only_role(AGENT, self.trainable)

    def refuse_idle_opponent(self) -> None:
        """Refuse an opponent: the one role here learns.

        Raises:
            SettingError: It does.
        """
        refuse_opponent_of(AGENT, self.trainable, name=self.name)

    def build(self) -> Environment:
        """Build the environment; see :class:`astuner_gym.environment.EnvironmentConfig`."""
        train, held_out = self._tasks()
        return Environment(
            name=self.name,
            workflow=Gsm8kWorkflow(max_calls=self.max_calls),
            judge=Gsm8kJudge(),
            train_tasks=train,
            eval_tasks=held_out,
            demonstrations=self._demonstrations(),
            agents=(AGENT,),
        )

    def _demonstrations(self) -> DemonstrationSets:
        seed = self.tasks.seed
        return DemonstrationSets(
            train=ExpertConversations(
                Problems(Split.TRAIN, seed=seed, size=TRAIN_SIZE),
                error_rate=self.demonstration_error_rate,
                seed=seed,
            ),
            held_out=ExpertConversations(
                Problems(Split.HELDOUT, seed=seed, size=HELD_OUT_SIZE), error_rate=0.0, seed=seed
            ),
        )

    def _tasks(self) -> tuple[TaskSource, dict[str, TaskSource]]:
        if self.tasks.path is not None:
            source = read_problems(Path(self.tasks.path))
            if self.tasks.eval_path is not None:
                return source, {"heldout": read_problems(Path(self.tasks.eval_path))}
            train, rest = hold_out(source)
            return train, {"heldout": rest}
        if self.tasks.source == "hub":
            repository, subset = "openai/gsm8k", "main"
            return (
                HubTasks(repository, subset=subset, split="train", required=FIELDS),
                {"heldout": HubTasks(repository, subset=subset, split="test", required=FIELDS)},
            )
        generated = {
            split: ProblemTasks(Problems(split, seed=self.tasks.seed, size=size))
            for split, size in (
                (Split.TRAIN, TRAIN_SIZE),
                (Split.HELDOUT, HELD_OUT_SIZE),
                (Split.UNSEEN, HELD_OUT_SIZE),
            )
        }
        return generated[Split.TRAIN], {
            split.value: generated[split] for split in (Split.HELDOUT, Split.UNSEEN)
        }


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())

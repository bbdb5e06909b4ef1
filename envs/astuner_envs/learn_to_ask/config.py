"""Settings of the learn-to-ask environment, and how they become an environment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from astuner_envs.learn_to_ask.demonstrations import ClerkConversations
from astuner_envs.learn_to_ask.intake import Intakes, Split
from astuner_envs.learn_to_ask.intake.turns import IntakeTurns
from astuner_envs.learn_to_ask.judge import LearnToAskJudge, QuestionGrader, RuleGrader
from astuner_envs.learn_to_ask.llm_grader import LlmGrader
from astuner_envs.learn_to_ask.reward import FUSIONS, SCALES
from astuner_envs.learn_to_ask.tasks import IntakeTasks, as_tasks, hold_out_sessions, read_rows
from astuner_envs.learn_to_ask.typed import TypedDialogue
from astuner_envs.learn_to_ask.workflow import AGENT, LearnToAskWorkflow
from astuner_gym.environment import DemonstrationSets, Environment
from astuner_gym.errors import SettingError
from astuner_gym.only_role import refuse_opponent_of, require_only_role
from astuner_gym.task import TaskSource

TRAIN_SIZE = 100_000
HELD_OUT_SIZE = 2_000


@dataclass
class LearnToAskTasksConfig:
    """Where the dialogues come from."""

    path: str | None = None
    """JSONL file of rows or of whole sessions, or a CSV file of MTS-Dialog; null for generated
    ones."""
    eval_path: str | None = None
    """File to evaluate on; without it the last tenth of the sessions in ``path`` is held out."""
    seed: int = 0
    """Seed of the generator."""

    def __post_init__(self) -> None:
        # Absolute, so that a run resumed from another folder finds the same files.
        self.path, self.eval_path = _absolute(self.path), _absolute(self.eval_path)
        if self.eval_path is not None and self.path is None:
            raise SettingError(
                f"env.tasks.eval_path={self.eval_path} needs env.tasks.path, the tasks to train "
                "on; set env.tasks.path=<rows or sessions>"
            )


@dataclass
class LearnToAskConfig:
    """Settings of ``env=learn_to_ask``."""

    name: str = "learn_to_ask"
    """What messages call it."""
    tasks: LearnToAskTasksConfig = field(default_factory=LearnToAskTasksConfig)
    trainable: list[str] | None = None
    """Roles that learn; null for all. The one role here is ``clerk``."""
    fusion: str = "product"
    """How decision a, content c and format f become a reward: ``product`` a(1 + 2c) + f, ``sum``
    a + c + f, ``content`` 2c + f, ``decision`` 3a + f."""
    scale: str = "trinity"
    """What a question is worth that is not direct: ``trinity`` 0.5 if it is highly relevant,
    ``agentjet`` 0.1 if it is at least generic."""
    demonstration_error_rate: float = 0.4
    """Share of the demonstrations with an error."""

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise SettingError(
                f"env.fusion must be one of {[*FUSIONS]}, got {self.fusion!r}; "
                "set env.fusion=product"
            )
        if self.scale not in SCALES:
            raise SettingError(
                f"env.scale must be one of {[*SCALES]}, got {self.scale!r}; set env.scale=trinity"
            )
        if not 0 <= self.demonstration_error_rate < 1:
            raise SettingError(
                "env.demonstration_error_rate must be in [0, 1), got "
                f"{self.demonstration_error_rate}; set env.demonstration_error_rate=0.4, say"
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
            workflow=LearnToAskWorkflow(),
            judge=self._judge(RuleGrader(SCALES[self.scale])),
            judge_by_model=lambda model: self._judge(LlmGrader(model, SCALES[self.scale])),
            train_tasks=train,
            eval_tasks=held_out,
            demonstrations=self._demonstrations(),
            typed=TypedDialogue(),
            agents=(AGENT,),
        )

    def _judge(self, grader: QuestionGrader) -> LearnToAskJudge:
        return LearnToAskJudge(grader=grader, fusion=FUSIONS[self.fusion])

    def _demonstrations(self) -> DemonstrationSets:
        return DemonstrationSets(
            train=ClerkConversations(
                turns=self._turns(Split.TRAIN, TRAIN_SIZE),
                error_rate=self.demonstration_error_rate,
                seed=self.tasks.seed,
            ),
            # Of first turns alone: every assistant message is a target, and those of a history are
            # put in one of many ways, which nobody could foretell.
            held_out=ClerkConversations(
                turns=replace(self._turns(Split.HELDOUT, HELD_OUT_SIZE), openings=True),
                error_rate=0.0,
                seed=0,
            ),
        )

    def _tasks(self) -> tuple[TaskSource, dict[str, TaskSource]]:
        if self.tasks.path is not None:
            path = Path(self.tasks.path)
            train = read_rows(path)
            if self.tasks.eval_path is not None:
                other = Path(self.tasks.eval_path)
                held_out = read_rows(other)
                return as_tasks(path.stem, train), {"heldout": as_tasks(other.stem, held_out)}
            train, held_out = hold_out_sessions(train)
            return as_tasks(path.stem, train), {
                "heldout": as_tasks(f"{path.stem}-heldout", held_out)
            }
        return IntakeTasks(self._turns(Split.TRAIN, TRAIN_SIZE)), {
            split.value: IntakeTasks(self._turns(split, HELD_OUT_SIZE))
            for split in (Split.HELDOUT, Split.UNSEEN)
        }

    def _turns(self, split: Split, size: int) -> IntakeTurns:
        return IntakeTurns(Intakes(split, seed=self.tasks.seed, size=size))


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())

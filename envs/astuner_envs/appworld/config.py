"""Settings of the AppWorld environment, and how they become an environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from astuner_envs.appworld.demonstrations import (
    FIRST_SCENARIO,
    HELD_OUT_SCENARIO,
    ExpertConversations,
)
from astuner_envs.appworld.folders import DataFolders, engine_python, mini_world
from astuner_envs.appworld.judge import AppWorldJudge, Reward
from astuner_envs.appworld.services import evaluator_command, executor_command
from astuner_envs.appworld.tasks import AppWorldTasks, split_ids
from astuner_envs.appworld.workflow import AGENT, AppWorldWorkflow
from astuner_gym.environment import DemonstrationSets, Environment
from astuner_gym.errors import SettingError
from astuner_gym.only_role import refuse_opponent_of, require_only_role
from astuner_gym.services.pool import ServicePool
from astuner_gym.services.sandbox import offered
from astuner_gym.services.service import Patience

DEMONSTRATED_SCENARIOS = 200
HELD_OUT_DEMONSTRATED_SCENARIOS = 20


@dataclass
class AppWorldTasksConfig:
    """Which tasks there are."""

    path: str | None = None
    """AppWorld's root folder, with ``data/``: the official one or one of one's own. Null for
    ``$APPWORLD_ROOT``, or without it for the mini world that ``scripts/setup_appworld`` makes."""
    train: str = "train"
    """Split to train on."""
    held_out: list[str] | None = None
    """Splits to measure on; null for ``heldout`` and ``unseen`` of the mini world, or ``dev``."""
    ids: list[str] | None = None
    """Ids to train on, in place of a split."""

    def __post_init__(self) -> None:
        # Absolute, so that a run resumed from another folder finds the same tasks.
        self.path = None if self.path is None else str(Path(self.path).expanduser().absolute())


@dataclass
class AppWorldConfig:
    """Settings of ``env=appworld``."""

    name: str = "appworld"
    """What messages call it."""
    tasks: AppWorldTasksConfig = field(default_factory=AppWorldTasksConfig)
    trainable: list[str] | None = None
    """Roles that learn; null for all. The one role here is ``coder``."""
    reward: str = Reward.DENSE.value
    """``success``: 1 if all checks hold. ``dense``: the share of the required checks that hold,
    less the share of the others that do not."""
    max_turns: int = 5
    """Executions that the agent may take for one task."""
    forfeit: bool = True
    """Whether an episode is worth 0 in which code was flagged, such as one that opens a file."""
    worlds: int = 8
    """Worlds that can be used at a time; each takes about 170 MB of memory."""
    unsafe: bool = False
    """Whether to execute code that a model wrote without a sandbox, where the kernel has none."""
    engine: str | None = None
    """Python of the environment that ``scripts/setup_appworld`` made; null to find it."""
    logs: str | None = None
    """Folder of the services' logs; null for one in the run folder, or else a temporary one."""
    demonstration_error_rate: float = 0.5
    """Share of the demonstrations that end in a wrong state or answer."""

    def __post_init__(self) -> None:
        if self.reward not in [*Reward]:
            raise SettingError(
                f"env.reward must be one of {[*map(str, Reward)]}, got {self.reward!r}; "
                f"set env.reward={Reward.DENSE}"
            )
        for key, value in (("max_turns", self.max_turns), ("worlds", self.worlds)):
            if value < 1:
                raise SettingError(f"env.{key} must be >= 1, got {value}; set env.{key}=1 or more")
        if not 0 <= self.demonstration_error_rate < 1:
            raise SettingError(
                "env.demonstration_error_rate must be in [0, 1), got "
                f"{self.demonstration_error_rate}; set env.demonstration_error_rate=0.5, say"
            )
        require_only_role(AGENT, self.trainable)

    def refuse_idle_opponent(self) -> None:
        """Refuse an opponent: the one role here learns.

        Raises:
            SettingError: It does.
        """
        refuse_opponent_of(AGENT, self.trainable, name=self.name)

    def build(self) -> Environment:
        """Build the environment; its services start with the first episode.

        See :class:`astuner_gym.environment.EnvironmentConfig`.
        """
        python = engine_python(self.engine)
        root = self.tasks.path or os.environ.get("APPWORLD_ROOT")
        folders = mini_world() if root is None else DataFolders.of_root(Path(root))
        held_out = self.tasks.held_out or (["heldout", "unseen"] if root is None else ["dev"])
        ids = self.tasks.ids or split_ids(folders.open, self.tasks.train)
        for id_ in self.tasks.ids or ():
            if not (folders.open / "tasks" / id_).is_dir():
                raise SettingError(
                    f"env.tasks.ids must name folders of {folders.open / 'tasks'}, got {id_!r}; "
                    "choose from those, or leave it out for the split env.tasks.train"
                )
        logs = None if self.logs is None else Path(self.logs).absolute()
        # Imports take seconds on a free machine, and minutes where many start at once.
        patience = Patience(start_s=600.0)
        executors = ServicePool(
            executor_command(python, folders, offered(), unsafe=self.unsafe),
            self.worlds,
            logs,
            name="executor",
            patience=patience,
        )
        evaluators = ServicePool(
            evaluator_command(python, folders), 1, logs, name="evaluator", patience=patience
        )
        return Environment(
            name=self.name,
            workflow=AppWorldWorkflow(
                executors=executors, evaluators=evaluators, max_turns=self.max_turns
            ),
            judge=AppWorldJudge(reward=Reward(self.reward), forfeit=self.forfeit),
            train_tasks=AppWorldTasks(folders.open, ids),
            eval_tasks={
                split: AppWorldTasks(folders.open, split_ids(folders.open, split))
                for split in held_out
            },
            demonstrations=DemonstrationSets(
                train=ExpertConversations(
                    first=FIRST_SCENARIO,
                    scenarios=DEMONSTRATED_SCENARIOS,
                    error_rate=self.demonstration_error_rate,
                ),
                held_out=ExpertConversations(
                    first=HELD_OUT_SCENARIO,
                    scenarios=HELD_OUT_DEMONSTRATED_SCENARIOS,
                    error_rate=0.0,
                ),
            ),
            agents=(AGENT,),
            services=(executors, evaluators),
            scenario="scenario",
        )

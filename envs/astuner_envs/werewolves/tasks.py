"""Tasks: which game is played, and who sits on the seats of either side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from astuner_envs.werewolves.players import PLAYERS
from astuner_envs.werewolves.rules import Side
from astuner_gym.errors import TaskDataError
from astuner_gym.task import JsonValue, Task, TaskSource

MODEL = "model"
"""Plays a side by the workflow's models, in place of a scripted player."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One game before it begins."""

    seed: int
    """Deals the roles, breaks ties, and names what scripted players draw."""
    players: Mapping[Side, str]
    """Name of the scripted player that plays a side, or ``model``."""

    @classmethod
    def of(cls, task: Task) -> Table:
        """Read a task's record: ``{"seed": 7, "wolves": "model", "village": "uniform"}``.

        Raises:
            TaskDataError: A field is absent or has another value than it may have.
        """
        seed = task.record.get("seed")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TaskDataError(f"task {task.id}: field 'seed' must be an integer, got {seed!r}")
        players = {side: task.text(side.value) for side in Side}
        for side, player in players.items():
            if player not in (MODEL, *PLAYERS):
                raise TaskDataError(
                    f"task {task.id}: field '{side}' must be one of {[MODEL, *PLAYERS]}, "
                    f"got {player!r}"
                )
        return cls(seed=seed, players=players)

    @property
    def record(self) -> dict[str, JsonValue]:
        """The task's record."""
        return {"seed": self.seed, **{side.value: self.players[side] for side in Side}}


@dataclass(frozen=True, slots=True)
class Tables:
    """Games of consecutive seeds as a task source."""

    name: str
    first_seed: int
    size: int
    players: Mapping[Side, str]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> Task:
        table = Table(seed=self.first_seed + index, players=self.players)
        return Task(id=f"{self.name}-{index}", record=table.record)


@dataclass(frozen=True, slots=True)
class SeatedTables:
    """A user's games: records that lack a side's player get the one that the settings name."""

    source: TaskSource
    players: Mapping[Side, str]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> Task:
        task = self.source[index]
        defaults = {side.value: player for side, player in self.players.items()}
        return Task(id=task.id, record={**defaults, **task.record})

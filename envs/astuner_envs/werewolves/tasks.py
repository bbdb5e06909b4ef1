"""Tasks: which game is played, and who sits on the seats of either side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from astuner_envs.werewolves.players import PLAYERS
from astuner_envs.werewolves.rules import Role, Side
from astuner_gym.errors import TaskDataError
from astuner_gym.task import JsonlTasks, JsonValue, Task, TaskSource

MODEL = "model"
"""Plays a side by the workflow's models, in place of a scripted player."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One game before it begins."""

    seed: int
    """Deals the roles, breaks ties, and names what scripted players draw."""
    players: Mapping[str, str]
    """Who plays, by side or by role, which goes before its side: the name of a scripted player, or
    ``model``."""

    def player(self, role: Role) -> str:
        """Return who plays a role."""
        return self.players.get(role, self.players[role.side])

    @classmethod
    def of(cls, task: Task) -> Table:
        """Read a task's record: ``{"seed": 7, "wolves": "model", "village": "uniform"}``.

        A role may stand beside the sides: ``"seer": "model"``.

        Raises:
            TaskDataError: A field is absent or has another value than it may have.
        """
        seed = task.record.get("seed")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TaskDataError(f"task {task.id}: field 'seed' must be an integer, got {seed!r}")
        named = [*Side, *(role for role in Role if role in task.record)]
        players = {name.value: task.text(name.value) for name in named}
        for name, player in players.items():
            if player not in (MODEL, *PLAYERS):
                raise TaskDataError(
                    f"task {task.id}: field {name!r} must be one of {[MODEL, *PLAYERS]}, "
                    f"got {player!r}"
                )
        return cls(seed=seed, players=players)

    @property
    def record(self) -> dict[str, JsonValue]:
        """The task's record."""
        return {"seed": self.seed, **self.players}


@dataclass(frozen=True, slots=True)
class Tables:
    """Games of consecutive seeds as a task source."""

    name: str
    first_seed: int
    size: int
    players: Mapping[str, str]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> Task:
        table = Table(seed=self.first_seed + index, players=self.players)
        return Task(id=f"{self.name}-{index}", record=table.record)


@dataclass(frozen=True, slots=True)
class SeatedTables:
    """A user's games: a record that does not say who plays gets the players of the settings.

    Whom a record names for a side plays all roles of it for which the record names nobody else,
    those that learn too.
    """

    source: TaskSource
    players: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> Task:
        task = self.source[index]
        named = {role.value for side in Side if side in task.record for role in side.roles}
        players = {seat: player for seat, player in self.players.items() if seat not in named}
        return Task(id=task.id, record={**players, **task.record})


def read_tables(path: Path, players: Mapping[str, str]) -> SeatedTables:
    """Return the games of a JSONL file, each of which can be played.

    Args:
        path: One object a line; see :meth:`Table.of`.
        players: Who plays where a record does not say it.

    Raises:
        TaskDataError: The file is absent or malformed, or a record names no game; the message names
            file and line.
    """
    lines = JsonlTasks(path, required=())
    games = SeatedTables(lines, players)
    for index in range(len(games)):
        try:
            Table.of(games[index])
        except TaskDataError as error:
            raise TaskDataError(f"{lines.place(index)}: {error}") from error
    return games

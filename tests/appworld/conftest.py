"""A small mini world, built once, and the real engine's services on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from astuner_envs.appworld import AppWorldConfig
from astuner_envs.appworld.config import AppWorldTasksConfig
from astuner_envs.appworld.folders import engine_python
from astuner_envs.appworld.mini.plan import numbered_variants
from astuner_envs.appworld.mini.scenarios import Variant
from astuner_envs.appworld.outcome import Outcome
from astuner_envs.appworld.setup import build_mini_world
from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.chat.model import EpisodeModels
from astuner_gym.environment import Environment
from astuner_gym.episode import run_episode_with
from astuner_gym.errors import EpisodeLimitError
from astuner_gym.judge import Score
from astuner_gym.task import Task

SCALE = 0.01
"""One scenario of each kind and split."""


@dataclass
class Scripted:
    """Replies in turn, and notes what it was told."""

    replies: Sequence[str]
    limit: int | None = None
    """Calls after which no further one is answered."""

    def __post_init__(self) -> None:
        self.calls: list[ChatCall] = []

    async def respond(self, call: ChatCall) -> ChatReply:
        """Return the next reply; after the last, one without code."""
        if len(self.calls) == self.limit:
            raise EpisodeLimitError("one call too many")
        self.calls.append(call)
        index = len(self.calls) - 1
        return ChatReply(text=self.replies[index] if index < len(self.replies) else "")

    @property
    def told(self) -> list[str]:
        """The user messages so far, in order."""
        return [message.text for message in self.calls[-1].messages if message.role == "user"]


@dataclass(frozen=True)
class Played:
    """A finished episode."""

    outcome: Outcome
    score: Score
    told: list[str]


@dataclass(frozen=True)
class Stage:
    """The environment and all of its tasks by id."""

    environment: Environment
    tasks: dict[str, Task]
    variants: dict[str, Variant]
    splits: dict[str, list[str]]
    root: Path

    def play(self, task_id: str, replies: Sequence[str], *, limit: int | None = None) -> Played:
        """Play one episode with these replies, of which a limit may admit only the first."""
        return asyncio.run(self.aplay(task_id, replies, limit=limit))

    async def aplay(
        self, task_id: str, replies: Sequence[str], *, limit: int | None = None
    ) -> Played:
        """Play one episode with these replies, of which a limit may admit only the first."""
        responder = Scripted(replies, limit=limit)
        ended = await run_episode_with(
            EpisodeModels(responder),
            self.environment.workflow,
            self.environment.judge,
            self.tasks[task_id],
        )
        outcome = Outcome.from_json(ended.result.output)
        assert outcome is not None
        assert not ended.result.truncated
        return Played(outcome, ended.score, responder.told)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("appworld") / "mini"
    build_mini_world(folder, python=engine_python(None), scale=SCALE)
    return folder


@pytest.fixture(scope="session")
def stage(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASTUNER_CACHE", str(tmp_path_factory.mktemp("cache")))
        config = AppWorldConfig(
            tasks=AppWorldTasksConfig(path=str(root / "sealed"), held_out=["heldout", "unseen"]),
            max_turns=4,
            worlds=3,
            logs=str(tmp_path_factory.mktemp("logs")),
        )
        environment = config.build()
    variants = {id_: variant for _, id_, variant in numbered_variants(scale=SCALE)}
    splits: dict[str, list[str]] = {}
    for split, id_, _ in numbered_variants(scale=SCALE):
        splits.setdefault(split, []).append(id_)
    sources = [environment.train_tasks, *environment.eval_tasks.values()]
    tasks = {source[i].id: source[i] for source in sources for i in range(len(source))}
    yield Stage(environment, tasks, variants, splits, root)
    environment.close()

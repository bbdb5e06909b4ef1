"""The learner as actors: a process, or one for each rank of a group that learns together.

A learner that dies is not started anew: what it knew beyond the last checkpoint is lost, so the run
ends and is resumed from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import ray
import torch
from ray import ObjectRef
from ray.actor import ActorHandle
from torch import Tensor

from astuner_rl.backbones.ray.answers import Watch, answer, answers, watch
from astuner_rl.backbones.ray.weights import PackedTensor, StoredWeights, pack
from astuner_rl.learning.learner import Learner, UpdateReport
from astuner_rl.types import AgentEpisode

LEARNER = "the learner"
"""What messages call the actors here."""

MakeLearner: TypeAlias = Callable[[], Learner]


class LearnerActor:
    """One learner, in a process of its own; made and asked through ``LearnerActors``."""

    def __init__(self, make: MakeLearner, threads: int) -> None:
        # Every call runs in this thread: with several intra-op threads bits depend on which it is.
        torch.set_num_threads(threads)
        self._failure: Exception | None = None
        try:
            self._learner = make()
        # Raised here it would reach the run as a text; it is raised where the run asks.
        except Exception as error:
            self._failure = error

    def ready(self) -> None:
        """Raise what kept the learner from being made."""
        if self._failure is not None:
            raise self._failure

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        """Train on ``episodes``."""
        return self._learner.update(episodes)

    def weights(self) -> dict[str, PackedTensor]:
        """Return the policy's weights."""
        return pack(self._learner.weights())

    def state_dict(self) -> dict[str, Any]:
        """Return all that an exact resume needs."""
        return self._learner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self._learner.load_state_dict(state)


class LearnerActors:
    """The learner of a run, made of actors: every rank is asked, and the first one's answer counts.

    Args:
        ranks: By rank.
        answer_s: Seconds after which an actor that has not started is lost.

    Raises:
        AstunerError: An actor's learner cannot be made.
        LostProcessError: An actor died, or does not answer.
    """

    def __init__(self, ranks: Sequence[ActorHandle[LearnerActor]], *, answer_s: float) -> None:
        self._ranks = ranks
        answers([rank.ready.remote() for rank in ranks], of=LEARNER, within_s=answer_s)

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        """Train on ``episodes``; see :class:`astuner_rl.learning.learner.Learner`.

        Raises:
            NonFiniteLossError: Loss or gradient is NaN or infinite; nothing has changed.
            LostProcessError: A rank has died.
        """
        batch = ray.put(tuple(episodes))
        report: UpdateReport = _first([rank.update.remote(batch) for rank in self._ranks])
        return report

    def weights(self) -> Mapping[str, Tensor]:
        """Return the policy's weights as they are now; they go to the object store and stay there
        until somebody looks at them.
        """
        weights, *_ = [rank.weights.remote() for rank in self._ranks]
        return StoredWeights(weights)

    def state_dict(self) -> dict[str, Any]:
        """Return all that an exact resume needs.

        Raises:
            LostProcessError: A rank has died.
        """
        state: dict[str, Any] = _first([rank.state_dict.remote() for rank in self._ranks])
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned for the same model and settings.

        Raises:
            LostProcessError: A rank has died.
        """
        stored = ray.put(dict(state))
        _first([rank.load_state_dict.remote(stored) for rank in self._ranks])

    @property
    def watches(self) -> list[Watch]:
        """Look whether the ranks are there, until one is lost."""
        # A rank answers when its update is over, however long that takes.
        return [
            partial(watch, partial(_look_after, rank), of=LEARNER, within_s=None)
            for rank in self._ranks
        ]

    async def close(self) -> None:
        """End the actors."""
        for rank in self._ranks:
            ray.kill(rank)


async def _look_after(rank: ActorHandle[LearnerActor]) -> None:
    await answer(rank.ready.remote(), of=LEARNER)


def _first(references: Sequence[ObjectRef[Any]]) -> Any:
    """Block until every rank has answered, and return the answer of the first."""
    return answers(references, of=LEARNER)[0]

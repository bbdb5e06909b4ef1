"""The learner as actors: a process, or one for each rank of a group that learns together.

A rank that dies is not started anew: what it knew beyond the last checkpoint is lost, so the run
ends and is resumed from there, on as many ranks as there are then.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import ray
import ray.util
import torch
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayTaskError
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from astuner_rl.backbones.ray.answers import Watch, answer, answers, watch
from astuner_rl.backbones.ray.weights import PackedTensor, StoredWeights, pack
from astuner_rl.free_memory import return_free_memory
from astuner_rl.learning.learner import Learner, UpdateReport
from astuner_rl.learning.lora import AdapterWeights
from astuner_rl.learning.process_ranks import ProcessRanks
from astuner_rl.learning.ranks import OneProcess, Ranks
from astuner_rl.types import AgentEpisode

LEARNER = "the learner"
"""What messages call the actors here."""

MakeLearner: TypeAlias = Callable[[Ranks], Learner]


class LearnerActor:
    """One rank, in a process of its own; made and asked through ``LearnerActors``.

    Args:
        make: Makes its learner.
        device: What it computes on.
        threads: Intra-op threads.
    """

    def __init__(self, make: MakeLearner, device: str, threads: int) -> None:
        # Every call runs in this thread: with several intra-op threads bits depend on which it is.
        torch.set_num_threads(threads)
        self._make = make
        self._device = device

    def open_store(self) -> tuple[str, int]:
        """Open where ranks find each other, and return its host and port."""
        host = ray.util.get_node_ip_address()
        listener = socket.create_server((host, 0))
        port: int = listener.getsockname()[1]
        # Given a socket it listens there; by itself it would on all interfaces.
        self._store = TCPStore(
            host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
        return host, port

    def start(self, rank: int, size: int, store: tuple[str, int] | None) -> None:
        """Make the learner; all ranks do so together.

        Args:
            rank: From 0.
            size: How many ranks there are.
            store: What ``open_store`` of the first rank has returned; None for the only one.
        """
        if store is None:
            self._learner = self._make(OneProcess())
            return
        if rank > 0:
            self._store = TCPStore(*store, is_master=False)
        _stay_on_loopback()
        self._learner = self._make(
            ProcessRanks(rank=rank, size=size, init_method=self._store, device=self._device)
        )

    def ready(self) -> int:
        """Return the process: who answers is there."""
        return os.getpid()

    def machine(self) -> str:
        """Return the name of the machine: bits are the same on one."""
        return socket.gethostname()

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        """Train on ``episodes``."""
        report = self._learner.update(episodes)
        # Samplers on the same machine now need what this has freed.
        return_free_memory()
        return report

    def weights(self) -> dict[str, PackedTensor]:
        """Return the policy's weights; {} if this is not the first rank."""
        return pack(self._learner.weights())

    def handover(self, whole: bool) -> dict[str, PackedTensor]:
        """Return what samplers get; {} if this is not the first rank."""
        return pack(self._learner.handover(whole=whole))

    def adapters(self) -> AdapterWeights | None:
        """Return the adapters that are trained in place of all weights."""
        return self._learner.adapters()

    def state_dict(self) -> dict[str, Any]:
        """Return all that an exact resume needs; {} if this is not the first rank."""
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
        store: tuple[str, int] | None = None
        if len(ranks) > 1:
            opened: list[ObjectRef[tuple[str, int]]] = [ranks[0].open_store.remote()]
            (store,) = answers(opened, of=LEARNER, within_s=answer_s)
        self._first(
            [actor.start.remote(rank, len(ranks), store) for rank, actor in enumerate(ranks)],
            within_s=answer_s,
        )

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        """Train on ``episodes``; see :class:`astuner_rl.learning.learner.Learner`.

        Raises:
            NonFiniteLossError: Loss or gradient is NaN or infinite; nothing has changed.
            LostProcessError: A rank has died.
        """
        batch = ray.put(tuple(episodes))
        report: UpdateReport = self._first([rank.update.remote(batch) for rank in self._ranks])
        return report

    def weights(self) -> Mapping[str, Tensor]:
        """Return the policy's weights as they are now; they go to the object store and stay there
        until somebody looks at them.
        """
        weights, *_ = [rank.weights.remote() for rank in self._ranks]
        return StoredWeights(weights, of=LEARNER)

    def handover(self, *, whole: bool) -> Mapping[str, Tensor]:
        """Return what a sampler gets, as ``weights`` does; see
        :class:`astuner_rl.learning.learner.Learner`.
        """
        weights, *_ = [rank.handover.remote(whole) for rank in self._ranks]
        return StoredWeights(weights, of=LEARNER)

    def adapters(self) -> AdapterWeights | None:
        """Return the adapters that are trained in place of all weights; None if none are.

        Raises:
            LostProcessError: A rank has died.
        """
        adapters: AdapterWeights | None = self._first(
            [rank.adapters.remote() for rank in self._ranks]
        )
        return adapters

    def state_dict(self) -> dict[str, Any]:
        """Return all that an exact resume needs.

        Raises:
            LostProcessError: A rank has died.
        """
        state: dict[str, Any] = self._first([rank.state_dict.remote() for rank in self._ranks])
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned for the same model and settings.

        Raises:
            LostProcessError: A rank has died.
        """
        stored = ray.put(dict(state))
        self._first([rank.load_state_dict.remote(stored) for rank in self._ranks])

    def machines(self) -> set[str]:
        """Return the names of the machines that the ranks are on.

        Raises:
            LostProcessError: A rank has died.
        """
        asked: list[ObjectRef[str]] = [rank.machine.remote() for rank in self._ranks]
        return set(answers(asked, of=LEARNER, within_s=None))

    @property
    def watches(self) -> list[Watch]:
        """Look whether the ranks are there, until one is lost."""
        # A rank answers when its update is over, however long that takes; a dead one at once.
        return [
            partial(watch, partial(_look_after, rank), of=LEARNER, within_s=None)
            for rank in self._ranks
        ]

    def _first(self, references: Sequence[ObjectRef[Any]], *, within_s: float | None = None) -> Any:
        """Block until every rank has answered, and return the answer of the first."""
        try:
            return answers(references, of=LEARNER, within_s=within_s)[0]
        except RayTaskError:
            # Ranks fail without a name of ours where another one has died, which tells more.
            answers([rank.ready.remote() for rank in self._ranks], of=LEARNER, within_s=within_s)
            raise


async def _look_after(rank: ActorHandle[LearnerActor]) -> int:
    return await answer(rank.ready.remote(), of=LEARNER)


def _stay_on_loopback() -> None:
    """Have ``torch.distributed`` listen on the loopback interface alone, where Ray does."""
    if not ipaddress.ip_address(ray.util.get_node_ip_address()).is_loopback:
        return
    interface = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    for library in ("GLOO", "NCCL"):
        os.environ[f"{library}_SOCKET_IFNAME"] = interface

"""The Ray that a run works with: started for it, or joined; and the resources that it reserves."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray._private import ray_constants
from ray.actor import ActorHandle
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from astuner_gym.errors import SettingError
from astuner_rl.backbones.ray.config import RayBackboneConfig
from astuner_rl.errors import RunAbortedError

CONNECT_S = 5.0
"""Seconds within which the head of a cluster must accept a connection."""
T = TypeVar("T")


@contextmanager
def connected(config: RayBackboneConfig) -> Iterator[None]:
    """Be connected to a Ray; one that was started ends with this, and all actors do.

    Raises:
        SettingError: Nobody answers at the address, or it is no Ray of this version.
        RunAbortedError: No Ray could be started.
    """
    try:
        if config.address is None:
            _start(config)
        else:
            _join(config.address)
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorPlan:
    """Actors that are alike, and what each needs."""

    count: int
    cpus: float
    gpus: float = 0.0
    restarts: bool
    """Whether Ray starts one anew that died, and asks it again what it had not answered."""
    most_calls: int
    """Calls that one has open at once."""

    @property
    def bundle(self) -> dict[str, float]:
        """What each reserves, in Ray's terms."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus > 0 else {})


@contextmanager
def reserved(plans: Mapping[str, ActorPlan], config: RayBackboneConfig) -> Iterator[Reservation]:
    """Reserve what all actors of a run need, or nothing.

    Args:
        plans: By the name of the setting, such as ``samplers``.
        config: How long to wait, and how to place them.

    Raises:
        SettingError: The cluster has not got it, or not free.
    """
    bundles = [plan.bundle for plan in plans.values() for _ in range(plan.count)]
    group = placement_group(bundles, strategy=config.strategy)
    try:
        if not group.wait(config.placement_s):
            raise SettingError(_shortage(plans, config))
        yield Reservation(group=group, plans=plans)
    finally:
        remove_placement_group(group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What a run may start its actors on."""

    group: PlacementGroup
    plans: Mapping[str, ActorPlan]

    def start(self, name: str, actor: type[T], *arguments: object) -> list[ActorHandle[T]]:
        """Start the actors that the plan ``name`` tells of; they are not waited for."""
        plan = self.plans[name]
        names = list(self.plans)
        first = sum(self.plans[before].count for before in names[: names.index(name)])
        return [
            ray.remote(actor)
            .options(
                num_cpus=plan.cpus,
                num_gpus=plan.gpus,
                max_restarts=-1 if plan.restarts else 0,
                max_task_retries=-1 if plan.restarts else 0,
                max_concurrency=plan.most_calls,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self.group, placement_group_bundle_index=first + number
                ),
            )
            .remote(*arguments)
            for number in range(plan.count)
        ]


def _start(config: RayBackboneConfig) -> None:
    try:
        with _loopback_alone():
            ray.init(
                # Not the one that RAY_ADDRESS may name.
                address="local",
                include_dashboard=config.dashboard,
                dashboard_host="127.0.0.1",
                object_store_memory=None
                if config.object_store_mb is None
                else config.object_store_mb * 2**20,
                logging_level=logging.ERROR,
                # By itself it lets all else on the machine go before the actors, which are the run.
                _system_config={"worker_niceness": 0},
            )
    # Ray raises plain exceptions, of many types.
    except Exception as error:
        raise RunAbortedError(
            f"Ray could not be started on this machine: {error}; see /tmp/ray/session_latest/logs, "
            "or join a cluster with backbone.address"
        ) from error


def _join(address: str) -> None:
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise _unreachable(address, error) from error
    try:
        ray.init(address=address, logging_level=logging.ERROR)
    # Ray raises plain exceptions, of many types.
    except Exception as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> SettingError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return SettingError(
        f"backbone.address={address}: this machine must belong to a running Ray cluster of Ray "
        f"{ray.__version__}, got: {reason}; start one with `ray start --head`, or leave "
        "backbone.address out"
    )


@contextmanager
def _loopback_alone() -> Iterator[None]:
    """Have a Ray that is started in here listen on the loopback interface and no other.

    Ray replaces a node address of 127.0.0.1 by one that others reach, except where it holds that
    this machine can have no cluster, as on Windows and macOS.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _shortage(plans: Mapping[str, ActorPlan], config: RayBackboneConfig) -> str:
    wanted = ", ".join(
        f"backbone.{name}: {plan.count} x {_amounts(plan.bundle)}"
        for name, plan in plans.items()
        if plan.count > 0
    )
    return (
        f"the actors' resources must be free within {config.placement_s:g} s "
        f"(backbone.placement_s, backbone.strategy={config.strategy}), got none for {wanted}; the "
        f"cluster has {_amounts(ray.cluster_resources())}, of which "
        f"{_amounts(ray.available_resources())} are free: ask for fewer actors, or for less each"
    )


def _amounts(resources: Mapping[str, Any]) -> str:
    return ", ".join(f"{resources.get(name, 0):g} {name}" for name in ("CPU", "GPU"))

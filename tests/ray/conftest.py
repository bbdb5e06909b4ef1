"""One Ray of two nodes for all tests; it listens on the loopback interface alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Read when Ray is imported: a machine that can have no cluster is 127.0.0.1 to itself.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import pytest
from ray.cluster_utils import Cluster

from tests.rl.conftest import hf_folder, toy

__all__ = ["hf_folder", "toy"]

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}


@dataclass(frozen=True)
class Nodes:
    """The cluster of the tests."""

    address: str
    cluster: Cluster

    def settings(self, *overrides: str) -> list[str]:
        """Return what makes a run join, with two samplers and two rollout workers."""
        return [
            "backbone=ray",
            f"backbone.address={self.address}",
            "backbone.samplers.count=2",
            "backbone.rollouts.count=2",
            # Logical: the machine has what it has.
            *(f"backbone.{actors}.cpus=0.1" for actors in ("samplers", "rollouts", "learner")),
            *overrides,
        ]

    def kill(self, actor: str, *, most: int = 99) -> int:
        """End processes that hold an actor of this class, and return how many it were."""
        raylets = {
            str(each.process.pid)
            for node in self.cluster.list_all_nodes()
            for each in node.all_processes["raylet"]
        }
        killed = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                title = (folder / "cmdline").read_text(encoding="utf-8")
                parent = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            except (OSError, UnicodeDecodeError):
                continue  # it has ended meanwhile
            if killed < most and title.startswith(f"ray::{actor}") and parent in raylets:
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
        return killed


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    # By itself Ray lets all else on the machine go before its actors.
    config = {"worker_niceness": 0}
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": config})
    cluster.add_node(**{name: NODE[name] for name in ("num_cpus", "object_store_memory")})
    yield Nodes(cluster.address, cluster)
    cluster.shutdown()

"""Ray for this process alone, on the loopback interface. Import it before anything else of Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Ray reads them as it is imported. Without the first it takes the machine's own address, whatever
# ray.init is told, and listens on all interfaces.
os.environ |= {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

import ray
import ray.util

_OBJECT_STORE_BYTES = 100 * 2**20


@contextmanager
def loopback_ray() -> Iterator[None]:
    """Start Ray without a dashboard, and shut it down at the end of the block.

    Raises:
        RuntimeError: Ray does not listen on loopback alone, as it was imported too early.
    """
    ray.init(
        address="local",  # not one that another program has started on this machine
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
        configure_logging=False,
    )
    try:
        address = ray.util.get_node_ip_address()
        if address != "127.0.0.1":
            raise RuntimeError(
                f"Ray must listen on 127.0.0.1, got {address}; import benchmarks.loopback_ray "
                "before Ray"
            )
        yield
    finally:
        ray.shutdown()

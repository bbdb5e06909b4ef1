"""A run that starts a Ray of its own: it listens to nobody else, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LOCAL = [
    "backbone=ray",
    "backbone.rollouts.count=1",
    "backbone.object_store_mb=100",
    *(f"backbone.{actors}.cpus=0.1" for actors in ("samplers", "rollouts", "learner")),
]


def processes_of(session: int) -> list[int]:
    """Return the processes of a session, as ``setsid`` makes them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def gone_within(session: int, seconds: float) -> bool:
    """Return whether all processes of a session end in time: Ray's agents follow their raylet."""
    deadline = time.monotonic() + seconds
    while processes_of(session):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def listening_addresses(pids: list[int]) -> set[str]:
    """Return the local addresses, in hexadecimal, on which processes accept connections."""
    sockets = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(str(descriptor.readlink()))
            except OSError:
                continue  # closed meanwhile
    addresses = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="utf-8").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                addresses.add(fields[1].partition(":")[0])
    return addresses


def test_an_interrupted_run_listened_on_loopback_alone_and_leaves_nothing_running(
    toy: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = toy.settings(f"run.dir={run}", "train.steps=1000", "eval.every=0", *LOCAL)
    with subprocess.Popen(
        [sys.executable, "-m", "astuner_rl.train", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not list((run / "checkpoints").glob("step-*")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        pids = processes_of(process.pid)
        assert len(pids) > 5, "Ray's processes are of the run's session"
        # 127.0.0.1, in IPv6's form too.
        assert listening_addresses(pids) <= {"0100007F", "0000000000000000FFFF00000100007F"}
        # To the whole group, as a terminal does.
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 130, said
    assert f"go on with run.resume={run}\n" in said
    assert said.endswith("interrupted\n")
    assert "Traceback" not in said
    assert gone_within(process.pid, 20)


def test_nothing_of_a_run_that_is_killed_stays(toy: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = toy.settings(f"run.dir={run}", "train.steps=1000", "eval.every=0", *LOCAL)
    with subprocess.Popen(
        [sys.executable, "-m", "astuner_rl.train", *command],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while not list((run / "checkpoints").glob("step-*")):
            assert process.poll() is None
            time.sleep(0.1)
        process.kill()
    assert gone_within(process.pid, 120)

"""The processes of a run, found from outside by the titles that they have in the process table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TRAINER = "trainer"
TITLES: Mapping[str, str] = {
    "sampler": "ray::SamplerActor",
    "rollout worker": "ray::RolloutActor",
    "learner rank": "ray::LearnerActor",
    "vLLM engine": "VLLM::EngineCore",
}
"""How the title of a process begins that holds this part of a run; the trainer is above them."""


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """A process of the machine; its start time tells it from a later one of the same number."""

    started: int
    """In clock ticks since boot."""
    pid: int

    @property
    def alive(self) -> bool:
        """Whether it still runs; one that has ended and that nobody waited for does not."""
        entry = _entry(self.pid)
        return entry is not None and entry.process == self and entry.state != "Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    process: Process
    parent: int
    state: str
    title: str


def descendants(pid: int) -> dict[Process, str]:
    """Return the processes below one, and their titles."""
    entries = [entry for path in Path("/proc").glob("[0-9]*") if (entry := _entry(int(path.name)))]
    family = {pid}
    while more := {each.process.pid for each in entries if each.parent in family} - family:
        family |= more
    return {each.process: each.title for each in entries if each.process.pid in family - {pid}}


def holding(part: str, processes: Mapping[Process, str]) -> list[Process]:
    """Return those that hold a part of a run, by their age.

    Args:
        part: A name of ``TITLES``.
        processes: From ``descendants``.
    """
    return sorted(each for each, title in processes.items() if title.startswith(TITLES[part]))


def _entry(pid: int) -> _Entry | None:
    """Return what the process table says, None where the process has ended."""
    folder = Path("/proc") / str(pid)
    try:
        title = (folder / "cmdline").read_bytes().decode(errors="replace")
        # The name, which may hold anything, is in parentheses; state and parent come after it.
        fields = (folder / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, parent, *rest = fields.rpartition(")")[2].split()
    return _Entry(
        process=Process(started=int(rest[17]), pid=pid),
        parent=int(parent),
        state=state,
        title=title,
    )

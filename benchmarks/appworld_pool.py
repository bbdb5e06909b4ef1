"""AppWorld's services under fire: a world's server is killed every ten episodes.

Episodes are played over 1, 2 and 4 worlds, twice as many at a time as there are worlds. In every
other one an expert does the task, whose reward is 1, in the rest nothing is done, which is worth 0.
Now and then, in the course of an episode, a random server gets kill -9; the evaluator's too. An
episode that fails is played again, as a rollout does.

- ``hanging``: episodes that did not end in ten minutes;
- ``scored_wrongly``: episodes that ended with another reward than they have in peace;
- ``orphan_processes``: processes, of all that were started, that were alive after the pools had
  been closed, or ten seconds after a run of its own had been ended by kill -9;
- ``lease_overhead``: of an episode's time, the share in which leases begin and end, measured in
  peace, with one world and one episode at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from astuner_envs.appworld.demonstrations import expert_replies
from astuner_envs.appworld.folders import engine_python, mini_world
from astuner_envs.appworld.judge import AppWorldJudge, Reward
from astuner_envs.appworld.mini.plan import numbered_variants
from astuner_envs.appworld.services import evaluator_command, executor_command
from astuner_envs.appworld.tasks import AppWorldTasks
from astuner_envs.appworld.workflow import AGENT, AppWorldWorkflow
from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.episode import run_episode
from astuner_gym.services.sandbox import offered
from astuner_gym.services.service import Patience
from benchmarks.killed_services import Fates, Started, TimedPool, play_under_kills, servers
from benchmarks.report import Bar, report
from benchmarks.victims import descendants

KILL_EVERY = 10
HANGING_S = 600.0
DO_NOTHING = "```python\napis.supervisor.complete_task()\n```"
GONE_WITHIN_S = 10.0
"""After which a process that has outlived its run by kill -9 counts as an orphan."""


@dataclass(slots=True)
class Scripted:
    """Replies in turn; with nothing once it has said all."""

    replies: Sequence[str]

    async def respond(self, call: ChatCall) -> ChatReply:
        """Return the reply to the call of its index."""
        said = self.replies[call.index] if call.index < len(self.replies) else ""
        return ChatReply(text=said)


class Stage:
    """Mini-world episodes of known reward over pools that are timed."""

    def __init__(self, executors: TimedPool, evaluators: TimedPool, *, tasks: int) -> None:
        """Play so many tasks, again and again, over these pools."""
        self._pools = (executors, evaluators)
        self._workflow = AppWorldWorkflow(executors=executors, evaluators=evaluators, max_turns=5)
        self._judge = AppWorldJudge(reward=Reward.DENSE, forfeit=True)
        self._variants = [(id_, each) for _, id_, each in islice(numbered_variants(), tasks)]
        self._tasks = AppWorldTasks(mini_world().open, [id_ for id_, _ in self._variants])

    @property
    def overhead_s(self) -> float:
        """Seconds in which leases began and ended so far."""
        return sum(pool.overhead_s for pool in self._pools)

    async def play(self, index: int) -> float:
        """Play the episode of an index; returns its reward."""
        place = index % len(self._variants)
        _, variant = self._variants[place]
        replies = [DO_NOTHING] if expected(index) == 0 else expert_replies(variant)
        outcome = await run_episode(
            self._workflow, self._judge, self._tasks[place], Scripted(replies)
        )
        return outcome.score.reward(AGENT)


def expected(index: int) -> float:
    """The reward of the episode of an index where nothing is killed."""
    return float(index % 2 == 0)


@asynccontextmanager
async def stage(worlds: int, folder: Path, *, tasks: int) -> AsyncIterator[Stage]:
    """Start so many worlds and an evaluator, with logs in the folder."""
    python, folders = engine_python(None), mini_world()
    patience = Patience(start_s=600.0)
    executor = executor_command(python, folders, offered(), unsafe=False)
    evaluator = evaluator_command(python, folders)
    async with (
        TimedPool(executor, worlds, folder, name="executor", patience=patience) as executors,
        TimedPool(evaluator, 1, folder, name="evaluator", patience=patience) as evaluators,
    ):
        yield Stage(executors, evaluators, tasks=tasks)


async def under_kills(worlds: int, *, episodes: int, tasks: int) -> tuple[Fates, int]:
    """Play the episodes; returns their fates and how many processes were left."""
    started = Started()
    watching = asyncio.create_task(started.watch())
    with tempfile.TemporaryDirectory() as folder:
        async with stage(worlds, Path(folder), tasks=tasks) as played:
            fates = await play_under_kills(
                played.play,
                expected=expected,
                episodes=episodes,
                concurrency=2 * worlds,
                kill_every=KILL_EVERY,
                seed=worlds,
                deadline_s=HANGING_S,
            )
    watching.cancel()
    return fates, started.left()


async def overhead(*, episodes: int) -> tuple[float, float]:
    """Play each task in peace, one by one; returns seconds of leases, and of all, per episode."""
    with tempfile.TemporaryDirectory() as folder:
        async with stage(1, Path(folder), tasks=episodes) as played:
            for index in range(2):  # a world's first episode imports what later ones find
                await played.play(index)
            before, start = played.overhead_s, time.perf_counter()
            for index in range(episodes):
                reward = await played.play(index)
                assert reward == expected(index), f"task {index} is worth {reward} in peace"
            took = time.perf_counter() - start
            return (played.overhead_s - before) / episodes, took / episodes


async def play_until_killed() -> None:
    """Play for ever; prints a line once services run and an episode is over."""
    with tempfile.TemporaryDirectory() as folder:
        async with stage(2, Path(folder), tasks=2) as played:
            await played.play(0)
            print(f"playing over {len(servers())} services", flush=True)
            index = 0
            while True:
                await asyncio.gather(played.play(index), played.play(index + 1))
                index += 2


def outliving_a_killed_run() -> tuple[int, int]:
    """End a run by kill -9; returns how many processes it had and how many of them outlive it."""
    command = [sys.executable, "-m", "benchmarks.appworld_pool", "--play-until-killed"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        below = descendants(run.pid)
        run.kill()
    assert below, "the run that is to be killed has not begun"
    deadline = time.monotonic() + GONE_WITHIN_S
    while any(process.alive for process in below) and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(below), sum(process.alive for process in below)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="20 episodes over 2 worlds")
    parser.add_argument("--play-until-killed", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play_until_killed:
        asyncio.run(play_until_killed())
        return
    sizes, episodes, tasks = ([2], 20, 10) if arguments.quick else ([1, 2, 4], 200, 50)

    load_before = os.getloadavg()[0]
    lease_s, episode_s = asyncio.run(overhead(episodes=tasks))
    print(f"an episode takes {1000 * episode_s:.0f} ms in peace, leases {1000 * lease_s:.1f} ms")
    print(
        f"\n{'worlds':>6}{'episodes':>10}{'kills':>7}{'failed attempts':>17}{'dropped':>9}", end=""
    )
    print(f"{'wrong':>7}{'hanging':>9}{'left':>6}{'seconds':>9}")
    fates: dict[int, Fates] = {}
    left: dict[int, int] = {}
    for worlds in sizes:
        fates[worlds], left[worlds] = asyncio.run(
            under_kills(worlds, episodes=episodes, tasks=tasks)
        )
        fate = fates[worlds]
        print(f"{worlds:6}{fate.finished:10}{fate.kills:7}{fate.failed_attempts:17}", end="")
        print(f"{fate.dropped:9}{fate.scored_wrongly:7}{fate.hanging:9}", end="")
        print(f"{left[worlds]:6}{fate.seconds:9.1f}")
        assert fate.kills, "no server was killed, so this shows nothing"
    killed, outliving = outliving_a_killed_run()
    print(f"\nof {killed} processes of a run that was ended by kill -9, {outliving} outlived it")
    report(
        "appworld_pool",
        figures={
            "episodes": episodes,
            "tasks": tasks,
            "kill_every": KILL_EVERY,
            "load_average": load_before,
            "lease_s": lease_s,
            "episode_s": episode_s,
            "processes_of_the_killed_run": killed,
            "by_worlds": {str(worlds): asdict(fate) for worlds, fate in fates.items()},
        },
        bars={
            "hanging": Bar(sum(fate.hanging for fate in fates.values()), "<=", 0),
            "scored_wrongly": Bar(sum(fate.scored_wrongly for fate in fates.values()), "<=", 0),
            "orphan_processes": Bar(sum(left.values()) + outliving, "<=", 0),
            "lease_overhead": Bar(lease_s / episode_s, "<=", 0.05),
        },
        keep=not arguments.quick,
    )


if __name__ == "__main__":
    main()

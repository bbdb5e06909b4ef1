"""CPU time and memory of stepped games beside the workflow that they step.

Games of werewolves are played, all nine players by AgentScope agents, whose replies come from one
script: a function of the call alone. What is left is the time of the agents and of what is between
them and whoever answers. Compared are, on the same tasks,

- *bare*: ``run_episode`` on an event loop, judge included; its responder is the script itself;
- *stepped*: ``reset`` and ``step`` to the end, the script being asked outside, call by call.

Both read the script's text with the same parser. Each is measured with many games at once
(``asyncio.gather`` beside ``VectorWorkflowEnv``) and with one after the other (a loop beside
``WorkflowEnv``, where each step wakes a thread and comes back). At once, the bare script lets the
other games on before it answers, as whatever has to ask a model does: otherwise game after game
would be played to its end, and there would be none of the memory of many to walk through.

``cpu_ratio`` is stepped / bare, of medians over repeats that are measured in turns, and the worse
of the two. Games must have the same turns and rewards in every way.

``rss_gb`` is the peak memory, in 10⁹ bytes, of a fresh process that plays 256 games at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from astuner_envs.werewolves import WerewolvesConfig
from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.chat.parsers import HermesParser
from astuner_gym.env import Info, WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.episode import run_episode
from astuner_gym.task_draws import TaskDraws
from astuner_gym.vector import VectorWorkflowEnv
from benchmarks.report import Bar, report

CONCURRENT = 256
"""Games at once whose memory is measured."""

_PEAK = re.compile(r"VmHWM:\s*(\d+) kB")


def werewolves() -> Environment:
    """The environment that is measured: nine players, each played by a model."""
    return WerewolvesConfig(trainable=None, players=9).build()


def scripted(call: ChatCall) -> str:
    """What the script says: one of the choices that the call offers, or else a few words."""
    draws = Random(f"{call.agent}/{call.index}")
    question = call.messages[-1].text.rpartition("\n")[2]
    choices = question.rstrip(".").partition("One of: ")[2].split()
    return draws.choice(choices or ["I am sure of nothing.", "Let us be careful."])


@dataclass(slots=True)
class Game:
    """A game that was played."""

    turns: Counter[str] = field(default_factory=Counter)
    """Calls by agent."""
    rewards: dict[str, float] = field(default_factory=dict)
    """Of each agent that acted, all steps together."""

    def collect(self, rewards: Mapping[str, float]) -> None:
        """Add what fell in a step."""
        for agent, reward in rewards.items():
            self.rewards[agent] = self.rewards.get(agent, 0.0) + reward

    def actions(self, infos: Mapping[str, Info]) -> dict[str, str]:
        """The script's replies to those who must act."""
        calls = {agent: info["call"] for agent, info in infos.items() if "call" in info}
        self.turns.update(calls.keys())
        return {agent: scripted(call) for agent, call in calls.items()}


class Script:
    """Answers every call of a game as scripted."""

    def __init__(self, game: Game, *, takes_turns: bool) -> None:
        self._game = game
        self._takes_turns = takes_turns
        self._parser = HermesParser()

    async def respond(self, call: ChatCall) -> ChatReply:
        """Return the reply, read from the script's text."""
        if self._takes_turns:
            await asyncio.sleep(0)
        self._game.turns[call.agent] += 1
        return self._parser.parse(scripted(call))


async def play_bare(environment: Environment, seed: int, *, takes_turns: bool) -> Game:
    """Play the game that ``reset(seed=seed)`` starts, without steps."""
    game = Game()
    script = Script(game, takes_turns=takes_turns)
    task = TaskDraws(environment.train_tasks).next_task(seed=seed, options=None)
    outcome = await run_episode(environment.workflow, environment.judge, task, script)
    game.rewards = {agent: outcome.score.reward(agent) for agent in game.turns}
    return game


def bare_at_once(environment: Environment, games: int) -> list[Game]:
    """All games gathered on one event loop."""

    async def play() -> list[Game]:
        playing = (play_bare(environment, seed, takes_turns=True) for seed in range(games))
        return list(await asyncio.gather(*playing))

    return asyncio.run(play())


def bare_in_turn(environment: Environment, games: int) -> list[Game]:
    """One game after the other on one event loop."""

    async def play() -> list[Game]:
        return [await play_bare(environment, seed, takes_turns=False) for seed in range(games)]

    return asyncio.run(play())


def stepped_at_once(environment: Environment, games: int) -> list[Game]:
    """All games in one vector environment."""
    played = [Game() for _ in range(games)]
    with VectorWorkflowEnv(environment, games) as env:
        actions = [
            game.actions(infos) for game, (_, infos) in zip(played, env.reset(seed=0), strict=True)
        ]
        while not all(env.over):
            steps = env.step(actions)
            actions = []
            for game, (_, rewards, _, _, infos) in zip(played, steps, strict=True):
                game.collect(rewards)
                actions.append(game.actions(infos))
        assert not any(env.errors), env.errors
    return played


def stepped_in_turn(environment: Environment, games: int) -> list[Game]:
    """One game after the other in one environment."""
    played = []
    with WorkflowEnv(environment) as env:
        for seed in range(games):
            game = Game()
            observations, infos = env.reset(seed=seed)
            while observations:
                observations, rewards, _, _, infos = env.step(game.actions(infos))
                game.collect(rewards)
            played.append(game)
    return played


@dataclass(frozen=True, slots=True)
class Way:
    """A way to play games, and how many it is to play."""

    play: Callable[[Environment, int], list[Game]]
    games: int


def ways(*, at_once: int, in_turn: int) -> dict[str, Way]:
    """What is compared, by name."""
    return {
        "bare_at_once": Way(bare_at_once, at_once),
        "stepped_at_once": Way(stepped_at_once, at_once),
        "bare_in_turn": Way(bare_in_turn, in_turn),
        "stepped_in_turn": Way(stepped_in_turn, in_turn),
    }


def checked_turns(environment: Environment, compared: Mapping[str, Way]) -> dict[str, int]:
    """Play the games in every way, which must all go alike; returns the turns of each."""
    played = {name: way.play(environment, way.games) for name, way in compared.items()}
    longest = max(played.values(), key=len)
    for games in played.values():
        assert games == longest[: len(games)], "each way must play the same games"
    return {name: sum(game.turns.total() for game in games) for name, games in played.items()}


def cpu_seconds_in_turns(
    environment: Environment, compared: Mapping[str, Way], *, repeats: int
) -> dict[str, list[float]]:
    """CPU seconds of each way, all threads together, measured ``repeats`` times in turn."""
    gc.collect()
    gc.freeze()  # each way pays for its own objects, none for a walk through all modules
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    try:
        for _ in range(repeats):
            for name, way in compared.items():
                gc.collect()  # what the way before left behind is not this one's to clean up
                start = time.process_time()
                way.play(environment, way.games)
                seconds[name].append(time.process_time() - start)
    finally:
        gc.unfreeze()
    return seconds


def peak_memory_of_a_fresh_process(games: int) -> int:
    """Peak memory in bytes of a process that plays the games at once."""
    command = [sys.executable, "-m", "benchmarks.env_overhead", "--peak-memory", f"{games}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(printed)


def peak_memory() -> int:
    """Peak memory of this process in bytes; what it was before ``exec`` does not count."""
    # Not getrusage, whose maximum a child inherits from its parent.
    found = _PEAK.search(Path("/proc/self/status").read_text())
    assert found is not None, "Linux reports the peak"
    return int(found[1]) * 1024


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small version, under a minute")
    parser.add_argument(
        "--peak-memory", type=int, metavar="GAMES", help="only play and print this process's peak"
    )
    arguments = parser.parse_args()
    environment = werewolves()
    if arguments.peak_memory:
        stepped_at_once(environment, arguments.peak_memory)
        print(peak_memory())
        return
    at_once, in_turn, repeats = (16, 8, 3) if arguments.quick else (CONCURRENT, 64, 5)
    compared = ways(at_once=at_once, in_turn=in_turn)
    turns = checked_turns(environment, compared)
    load_before = os.getloadavg()[0]
    seconds = cpu_seconds_in_turns(environment, compared, repeats=repeats)
    per_turn = {
        name: 1000 * statistics.median(taken) / turns[name] for name, taken in seconds.items()
    }
    spread = {name: max(taken) / min(taken) for name, taken in seconds.items()}
    ratios = {
        "at_once": per_turn["stepped_at_once"] / per_turn["bare_at_once"],
        "in_turn": per_turn["stepped_in_turn"] / per_turn["bare_in_turn"],
    }
    memory = peak_memory_of_a_fresh_process(CONCURRENT)

    print(f"{at_once} games at once, {in_turn} in turn, CPU time, medians of {repeats} repeats")
    print(f"load average {load_before:.1f}\n\n{'':18}{'ms/turn':>9}{'turns/s':>9}{'max/min':>9}")
    for name, value in per_turn.items():
        print(f"{name:18}{value:9.3f}{1000 / value:9.0f}{spread[name]:9.2f}")
    print(f"stepped / bare: {ratios['at_once']:.3f} at once, {ratios['in_turn']:.3f} in turn")
    print(f"{CONCURRENT} games at once: {memory / 1e6:.0f} MB at the peak")
    report(
        "env_overhead",
        figures={
            "repeats": repeats,
            "load_average": load_before,
            "concurrent_games": CONCURRENT,
            **{f"cpu_ratio_{name}": ratio for name, ratio in ratios.items()},
            **{f"{name}_games": way.games for name, way in compared.items()},
            **{f"{name}_turns": count for name, count in turns.items()},
            **{f"{name}_ms_per_turn": value for name, value in per_turn.items()},
            **{f"{name}_turns_per_cpu_s": 1000 / value for name, value in per_turn.items()},
            **{f"{name}_max_over_min": value for name, value in spread.items()},
        },
        bars={
            "cpu_ratio": Bar(max(ratios.values()), "<=", 1.3),
            "rss_gb": Bar(memory / 1e9, "<=", 1.0),
        },
        keep=not arguments.quick,
    )


if __name__ == "__main__":
    main()

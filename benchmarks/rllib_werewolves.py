"""RLlib's PPO learns to play the werewolves on the structured view, against a scripted village.

The wolves share one policy. Each trained policy is measured on games that training never saw, the
same ones on which wolves who play uniformly are measured against the same village. The bar is the
difference between the two shares of games that the wolves win, of the seed that gained least; its
interval is a paired bootstrap over the games.

Run it where the extra ``rllib`` is installed. Ray listens on loopback alone, without a dashboard.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# First: it decides where Ray listens.
from benchmarks.loopback_ray import loopback_ray

# isort: split

import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec

from astuner_envs.werewolves.engine import Game
from astuner_envs.werewolves.players import PLAYERS, play
from astuner_envs.werewolves.rules import SEVEN_PLAYERS, Side
from astuner_envs.werewolves.view import StructuredWerewolves
from astuner_gym.adapters.rllib import MASK, RLlibMaskedEnv
from astuner_rl.tracing.intervals import Interval, bootstrap_interval, wilson_interval
from benchmarks.masked_actor_critic import MaskedActorCritic
from benchmarks.report import Bar, report

VILLAGE = "seer_following"
POLICY = "werewolf"
HELD_OUT_SEED = 2**31
"""First seed of the games of the evaluation; training draws its seeds from below."""
AT_ONCE = 500
"""Games of the evaluation that are under way together, for one forward pass over all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is trained and measured."""

    seeds: tuple[int, ...]
    iterations: int
    batch: int
    """Environment steps an iteration."""
    games: int
    """Of the evaluation."""


FULL = Size(seeds=(0, 1, 2), iterations=40, batch=4_000, games=4_000)
QUICK = Size(seeds=(0,), iterations=10, batch=2_000, games=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One trained policy."""

    seed: int
    win_rate: Interval
    """Actions sampled, as in training."""
    greedy_win_rate: Interval
    gain: Interval
    """Of the sampled policy over uniform wolves, paired by game."""
    returns: list[float]
    """Mean return of an episode by iteration of training, summed over the two wolves."""
    minutes: float


class WolvesEnv(RLlibMaskedEnv):
    """The wolves of seven players, against the scripted village."""

    def __init__(self, _: Mapping[str, Any] | None = None) -> None:
        super().__init__(StructuredWerewolves(SEVEN_PLAYERS, scripted={Side.VILLAGE: VILLAGE}))


def ppo(*, seed: int, batch: int) -> PPOConfig:
    """Return the settings of RLlib's PPO, all in this process."""
    module = RLModuleSpec(module_class=MaskedActorCritic, model_config={"hidden": 64})
    return (
        PPOConfig()
        .environment(WolvesEnv)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=20)
        .learners(num_learners=0)
        .multi_agent(policies={POLICY}, policy_mapping_fn=lambda agent, episode, **_: POLICY)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs={POLICY: module}))
        .training(
            train_batch_size_per_learner=batch,
            minibatch_size=512,
            num_epochs=6,
            lr=7e-4,
            gamma=1.0,
            lambda_=0.95,
            entropy_coeff=0.005,
        )
        .debugging(seed=seed, log_level="ERROR")
    )


def train(*, seed: int, size: Size) -> tuple[RLModule, list[float]]:
    """Train a policy; return it with the mean return of each iteration."""
    algorithm: PPO = ppo(seed=seed, batch=size.batch).build_algo()
    returns = []
    for iteration in range(1, size.iterations + 1):
        result = algorithm.train()
        returns.append(float(result["env_runners"]["episode_return_mean"]))
        if iteration % 10 == 0:
            print(f"  iteration {iteration}/{size.iterations}  return {returns[-1]:+.2f}")
    module = algorithm.get_module(POLICY)
    algorithm.stop()
    return module, returns


def policy_wins(module: RLModule, seeds: Sequence[int], *, greedy: bool) -> list[bool]:
    """Return, for each game, whether wolves who play by the policy win it."""
    draws = torch.Generator().manual_seed(len(seeds))
    wins = []
    for start in range(0, len(seeds), AT_ONCE):
        envs = [WolvesEnv() for _ in seeds[start : start + AT_ONCE]]
        seen = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds[start:], strict=False)]
        won = [False] * len(envs)
        while any(seen):
            asked = [(game, wolf) for game, due in enumerate(seen) for wolf in due]
            chosen = _choose(module, [seen[game][wolf] for game, wolf in asked], draws, greedy)
            actions: list[dict[str, int]] = [{} for _ in envs]
            for (game, wolf), action in zip(asked, chosen, strict=True):
                actions[game][wolf] = action
            for game, env in enumerate(envs):
                if not seen[game]:
                    continue
                seen[game], rewards, terminated, truncated, _ = env.step(actions[game])
                if terminated["__all__"] or truncated["__all__"]:
                    won[game] = max(rewards.values()) > 0
                    seen[game] = {}
        wins += won
    return wins


def _choose(
    module: RLModule, seen: Sequence[Mapping[str, Any]], draws: torch.Generator, greedy: bool
) -> list[int]:
    batch = {
        name: torch.stack([torch.from_numpy(observation[name]) for observation in seen])
        for name in ("observations", MASK)
    }
    with torch.no_grad():
        logits = module.forward_inference({Columns.OBS: batch})[Columns.ACTION_DIST_INPUTS]
    if greedy:
        return [int(action) for action in logits.argmax(dim=-1)]
    return [int(action) for action in torch.multinomial(logits.softmax(-1), 1, generator=draws)]


def uniform_wins(seeds: Sequence[int]) -> list[bool]:
    """Return, for each game, whether wolves who play uniformly win it: the engine alone."""
    wolves, village = PLAYERS["uniform"](), PLAYERS[VILLAGE]()
    wins = []
    for seed in seeds:
        game = Game(SEVEN_PLAYERS, seed=seed)
        seats = {
            player: wolves if role.side is Side.WOLVES else village
            for player, role in game.roles.items()
        }
        play(game, seats)
        wins.append(game.winner is Side.WOLVES)
    return wins


def measure(*, seed: int, size: Size, uniform: Sequence[bool], seeds: Sequence[int]) -> Trained:
    """Train with one seed and play the held-out games."""
    print(f"seed {seed}: PPO, {size.iterations} iterations of {size.batch} steps")
    start = time.perf_counter()
    module, returns = train(seed=seed, size=size)
    minutes = (time.perf_counter() - start) / 60
    sampled = policy_wins(module, seeds, greedy=False)
    differences = [
        float(ours) - float(theirs) for ours, theirs in zip(sampled, uniform, strict=True)
    ]
    trained = Trained(
        seed=seed,
        win_rate=_share(sampled),
        greedy_win_rate=_share(policy_wins(module, seeds, greedy=True)),
        gain=bootstrap_interval(differences, seed=seed),
        returns=returns,
        minutes=minutes,
    )
    print(f"  wolves win {_percent(trained.win_rate)}, greedy {_percent(trained.greedy_win_rate)}")
    print(f"  over uniform wolves {_percent(trained.gain)}, {minutes:.1f} minutes of training")
    return trained


def _share(wins: Sequence[bool]) -> Interval:
    return wilson_interval(successes=sum(wins), trials=len(wins))


def _percent(interval: Interval) -> str:
    return f"{interval.mean:.1%} ({interval.low:.1%} … {interval.high:.1%})"


def main() -> None:
    """Train, measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small version, under a minute")
    quick = parser.parse_args().quick
    size = QUICK if quick else FULL
    torch.set_num_threads(1)
    seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + size.games)
    uniform = uniform_wins(seeds)
    print(f"{size.games} games against a village that plays {VILLAGE}")
    print(f"uniform wolves win {_percent(_share(uniform))}")
    with loopback_ray():
        trained = [
            measure(seed=seed, size=size, uniform=uniform, seeds=seeds) for seed in size.seeds
        ]
    report(
        "rllib_werewolves",
        figures={
            "size": asdict(size),
            "village": VILLAGE,
            "uniform_win_rate": asdict(_share(uniform)),
            "trained": [asdict(one) for one in trained],
        },
        bars={"ppo_win_rate_over_uniform": Bar(min(one.gain.mean for one in trained), ">=", 0.10)},
        keep=not quick,
    )


if __name__ == "__main__":
    main()

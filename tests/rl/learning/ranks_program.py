"""Trains the same scenarios in one process and in ranks that are processes, and keeps the results.

``python ranks_program.py <folder>``: reads ``<folder>/inputs.pt``, and writes for each number of
ranks ``<folder>/<size>/<rank>.pt``, scenario by scenario; 0 ranks are one process without any.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from astuner_rl.algos.config import GrpoConfig, PpoConfig
from astuner_rl.errors import NonFiniteLossError
from astuner_rl.learning.forest_layout import forest_passes
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.learning.layout import Layout, padded_rows
from astuner_rl.learning.learner import Learner
from astuner_rl.learning.ppo import PpoLearner
from astuner_rl.learning.process_ranks import ProcessRanks
from astuner_rl.learning.ranks import OneProcess, Ranks
from astuner_rl.types import AgentEpisode

SIZES = (0, 4, 1, 2)
GRPO = {"lr": 0.01, "microbatch_tokens": 24, "max_grad_norm": 100.0}
EVERYTHING = {
    "kl_coefficient": 0.1,
    "entropy_coefficient": 0.1,
    "importance": "truncate",
    "ratio": "sequence",
    "epochs": 2,
    "minibatches": 2,
}


@dataclass(frozen=True)
class Inputs:
    """What all ranks are given."""

    policy: PreTrainedModel
    """float64."""
    episodes: list[AgentEpisode]
    broken: list[AgentEpisode]
    """The same, but for a log-prob in the last that is not a number."""


def grpo(
    layout: Layout, *, dtype: torch.dtype | None = None, **settings: Any
) -> Callable[[PreTrainedModel, Ranks], Learner]:
    config = GrpoConfig(**GRPO | settings)
    return lambda model, ranks: GrpoLearner(model, config, layout=layout, ranks=ranks, dtype=dtype)


def ppo(
    layout: Layout, *, dtype: torch.dtype | None = None, **settings: Any
) -> Callable[[PreTrainedModel, Ranks], Learner]:
    config = PpoConfig(**GRPO | settings)
    return lambda model, ranks: PpoLearner(model, config, layout=layout, ranks=ranks, dtype=dtype)


SCENARIOS: Mapping[str, Callable[[PreTrainedModel, Ranks], Learner]] = {
    "grpo, forest": grpo(forest_passes),
    "grpo, rows": grpo(padded_rows),
    "grpo, float32": grpo(forest_passes),
    "grpo, bfloat16": grpo(forest_passes, dtype=torch.bfloat16),
    "ppo, bfloat16": ppo(forest_passes, dtype=torch.bfloat16, epochs=1),
    "grpo, recomputed": grpo(forest_passes, gradient_checkpointing=True),
    "grpo, every term": grpo(forest_passes, **EVERYTHING),
    "grpo, little work": grpo(forest_passes),
    "ppo, forest": ppo(forest_passes, minibatches=2),
    "ppo, rows": ppo(padded_rows),
}
RESUMED = ("grpo, forest", "ppo, forest")
"""Scenarios that go on from what other ranks have saved, too."""
ON_TWO_RANKS = ("grpo, every term", "grpo, recomputed", "grpo, bfloat16", "ppo, bfloat16")
"""Scenarios that are not tried with other numbers of ranks."""


def run_scenario(name: str, inputs: Inputs, ranks: Ranks, resumed: Any) -> dict[str, Any]:
    make = SCENARIOS[name]
    policy = copy.deepcopy(inputs.policy)
    if "float32" in name or "bfloat16" in name:
        policy.float()
    episodes = inputs.episodes[:2] if "little work" in name else inputs.episodes
    learner = make(copy.deepcopy(policy), ranks)
    result: dict[str, Any] = {"metrics": [], "states": []}
    for _ in range(2):
        result["metrics"].append(dict(learner.update(episodes).metrics))
        result["states"].append(copy.deepcopy(learner.state_dict()))
    result["weights"] = copy.deepcopy(dict(learner.weights()))
    if resumed is not None:
        learner = make(copy.deepcopy(policy), ranks)
        learner.load_state_dict(resumed)
        learner.update(episodes)
        result["resumed"] = copy.deepcopy(learner.state_dict())
    return result


def run_broken(inputs: Inputs, ranks: Ranks) -> dict[str, Any]:
    """Fail in the second of two optimizer steps, and go on."""
    learner = grpo(forest_passes, minibatches=2)(copy.deepcopy(inputs.policy), ranks)
    before = copy.deepcopy(learner.state_dict())
    raised = False
    try:
        learner.update(inputs.broken)
    except NonFiniteLossError:
        raised = True
    after = copy.deepcopy(learner.state_dict())
    learner.update(inputs.episodes)
    return {"raised": raised, "before": before, "after": after, "then": learner.state_dict()}


def run_rank(folder: Path, size: int, rank: int, earlier: int | None) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    inputs = Inputs(**torch.load(folder / "inputs.pt", weights_only=False))
    states = {}
    if earlier is not None:
        states = torch.load(folder / str(earlier) / "0.pt", weights_only=True)
    ranks: Ranks = OneProcess()
    if size > 0:
        ranks = ProcessRanks(
            rank=rank,
            size=size,
            init_method=f"file://{folder}/rendezvous-{size}",
            timeout=timedelta(minutes=2),
        )
    results = {}
    for name in SCENARIOS:
        if name in ON_TWO_RANKS and size not in (0, 2):
            continue
        resumed = states[name]["states"][0] if states and name in RESUMED else None
        results[name] = run_scenario(name, inputs, ranks, resumed)
    results["broken"] = run_broken(inputs, ranks)
    (folder / str(size)).mkdir(exist_ok=True)
    torch.save(results, folder / str(size) / f"{rank}.pt")
    if isinstance(ranks, ProcessRanks):
        ranks.close()


def main(folder: Path) -> int:
    # Forked, so that torch is imported once for all of them.
    context = multiprocessing.get_context("fork")
    for earlier, size in zip((None, *SIZES), SIZES, strict=False):
        processes = [
            context.Process(target=run_rank, args=(folder, size, rank, earlier))
            for rank in range(max(size, 1))
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

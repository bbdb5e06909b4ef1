"""A run that takes seconds: a random model of 50,000 parameters, and an agent that speaks twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.random_model import save_random_model

AGENT = Path(__file__).with_name("toy_agent.py")
TASKS = 7
"""Of each kind; more steps than this go through them several times."""


@dataclass(frozen=True, slots=True)
class ToyRun:
    """Files of which a run is made, and its command line."""

    folder: Path
    """Holds ``model``, ``train.jsonl`` and ``eval.jsonl``."""

    def settings(self, *overrides: str) -> list[str]:
        """Return the settings of a run, ``overrides`` last."""
        return [
            "env=custom",
            f"env.workflow={AGENT}:run",
            f"env.judge={AGENT}:score",
            f"env.tasks.path={self.folder}/train.jsonl",
            f"env.tasks.eval_path={self.folder}/eval.jsonl",
            "algo=grpo",
            "algo.lr=1e-3",
            "model=hf",
            f"model.path={self.folder}/model",
            "sampler.context_length=192",
            "sampler.max_sessions=8",
            "rollout.max_tokens=24",
            "train.groups=2",
            "train.group_size=3",
            "logger.mode=disabled",
            *overrides,
        ]


def make_toy_run(folder: Path) -> ToyRun:
    """Write the files of a toy run into an empty folder."""
    # So large that replies differ from each other.
    save_random_model(folder / "model", environment=["env=gsm8k"], initializer_range=0.3)
    for name in ("train", "eval"):
        tasks = [json.dumps({"question": f"{name} {number}?"}) + "\n" for number in range(TASKS)]
        (folder / f"{name}.jsonl").write_text("".join(tasks), encoding="utf-8")
    return ToyRun(folder)

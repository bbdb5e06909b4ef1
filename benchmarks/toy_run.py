"""A run that takes seconds: a random model of 50,000 parameters, and an agent that speaks twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from astuner_gym.environment import environment_config
from astuner_rl.learning.tiny.tokenizer import train_tokenizer

AGENT = Path(__file__).with_name("toy_agent.py")
VOCABULARY = 1300
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
    demonstrations = environment_config("gsm8k")().build().demonstrations
    assert demonstrations is not None
    tokenizer = train_tokenizer(list(islice(demonstrations.train, 8)), vocab_size=VOCABULARY)
    architecture = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        # The least that vLLM has attention for.
        head_dim=32,
        max_position_embeddings=512,
        # So large that replies differ from each other.
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(architecture)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    for name in ("train", "eval"):
        tasks = [json.dumps({"question": f"{name} {number}?"}) + "\n" for number in range(TASKS)]
        (folder / f"{name}.jsonl").write_text("".join(tasks), encoding="utf-8")
    return ToyRun(folder)

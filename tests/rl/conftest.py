"""A run that takes a second: a random model of 50,000 parameters and two agents that talk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from astuner_gym.environment import environment_config
from astuner_rl import train
from astuner_rl.learning.tiny.tokenizer import train_tokenizer

AGENTS = '''\
"""A writer who answers twice and a critic who speaks once, and what their words are worth."""

from agentscope.message import AssistantMsg, UserMsg

from astuner_gym.judge import Score
from astuner_gym.workflow import WorkflowResult


def spoken(name, response):
    return AssistantMsg(name=name, content=list(response.content))


def text(message):
    return message.get_text_content() or ""


async def run(task, models):
    question = UserMsg(name="user", content=task.text("question"))
    draft = spoken("writer", await models["writer"]([question]))
    remark = spoken("critic", await models["critic"]([UserMsg(name="user", content=text(draft))]))
    asked = UserMsg(name="user", content=text(remark))
    final = spoken("writer", await models["writer"]([question, draft, asked]))
    return WorkflowResult(output=[text(draft) + text(final), text(remark)])


def share(written, letters):
    return sum(letter in letters for letter in written) / (1 + len(written))


def score(task, result):
    if result.truncated:
        return 0.0
    written, remarked = result.output
    rewards = {"writer": share(written, "01234"), "critic": share(remarked, "56789")}
    return Score(rewards=rewards, success=rewards["writer"] > rewards["critic"])
'''

CONVERSATIONS = "".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"Say {number}"},
                {"role": "assistant", "content": f"{number}"},
            ]
        }
    )
    + "\n"
    for number in range(12)
)


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Hugging Face folder: a Qwen3 of random weights that speaks ChatML."""
    demonstrations = environment_config("gsm8k")().build().demonstrations
    assert demonstrations is not None
    tokenizer = train_tokenizer(list(islice(demonstrations.train, 8)), vocab_size=1300)
    architecture = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(architecture)
        # Weights this large make the end of a turn likely enough to be sampled now and then.
        model.get_input_embeddings().weight.data[tokenizer.eos_token_id] *= 3
    folder = tmp_path_factory.mktemp("model") / "random"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Outcome:
    """All of a run that its seed names."""

    weights: str
    """Digest of the last checkpoint's model."""
    learner: str
    """Digest of the last checkpoint's learner: optimizer, critic, counters."""
    metrics: tuple[str, ...]
    """The lines of metrics.jsonl without the times."""
    episodes: dict[str, str]
    """Digest by file name."""


@dataclass(frozen=True)
class ToyRuns:
    """Starts runs of a toy environment, and reads what they leave."""

    hf_folder: Path
    env_folder: Path
    """Holds agents.py, train.jsonl, eval.jsonl and conversations.jsonl."""
    expected_runs: Path

    @property
    def imitation(self) -> list[str]:
        """Return the settings that make a run imitate conversations."""
        path = f"algo.path={self.env_folder}/conversations.jsonl"
        return ["algo=sft", path, "algo.batch_tokens=64", "algo.warmup_steps=1"]

    def of(self, algorithm: str) -> list[str]:
        """Return the settings that choose an algorithm."""
        return self.imitation if algorithm == "sft" else [f"algo={algorithm}"]

    def settings(self, *overrides: str) -> list[str]:
        """Return the command line of a run of 4 steps, ``overrides`` last."""
        return [
            "env=custom",
            f"env.workflow={self.env_folder}/agents.py:run",
            f"env.judge={self.env_folder}/agents.py:score",
            f"env.tasks.path={self.env_folder}/train.jsonl",
            f"env.tasks.eval_path={self.env_folder}/eval.jsonl",
            "model=hf",
            f"model.path={self.hf_folder}",
            "sampler.context_length=192",
            "sampler.max_sessions=8",
            "rollout.max_tokens=8",
            "train.steps=4",
            "train.groups=2",
            "train.group_size=2",
            "algo.lr=1e-3",
            "eval.every=2",
            "eval.tasks=2",
            "checkpoint.every=1",
            "logger.mode=disabled",
            *overrides,
        ]

    def start(self, folder: Path, *overrides: str) -> int:
        """Run the command in this process and return its exit status."""
        return train.main(self.settings(f"run.dir={folder}", *overrides))

    def resume(self, folder: Path, *overrides: str) -> int:
        """Go on with a run and return the exit status."""
        return train.main([f"run.resume={folder}", *overrides])

    def finish(self, folder: Path, *overrides: str) -> Outcome:
        """Run the command, which must succeed, and return what it left."""
        assert self.start(folder, *overrides) == 0
        return self.outcome(folder)

    def expected(self, *overrides: str) -> Outcome:
        """Return what a run in one go leaves; it is run once a session."""
        folder = self.expected_folder(*overrides)
        return self.outcome(folder) if folder.exists() else self.finish(folder, *overrides)

    def expected_folder(self, *overrides: str) -> Path:
        """Return where ``expected`` runs it."""
        return self.expected_runs / sha256(repr(overrides).encode()).hexdigest()

    def outcome(self, folder: Path) -> Outcome:
        """Return what a run left, without what depends on the clock."""
        last = self.checkpoints(folder)[-1]
        state = torch.load(last / "learner.pt", weights_only=True)
        logs = sorted((folder / "episodes").iterdir())
        return Outcome(
            weights=sha256((last / "hf/model.safetensors").read_bytes()).hexdigest(),
            learner=_digest(state),
            metrics=tuple(
                json.dumps({k: v for k, v in line.items() if not k.startswith("time/")})
                for line in self.metrics(folder)
            ),
            episodes={log.name: sha256(log.read_bytes()).hexdigest() for log in logs},
        )

    def metrics(self, folder: Path) -> list[dict[str, float | None]]:
        """Return the lines of metrics.jsonl."""
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def checkpoints(self, folder: Path) -> list[Path]:
        """Return the checkpoints by step."""
        return sorted((folder / "checkpoints").glob("step-*"))


@pytest.fixture(scope="session")
def toy(hf_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ToyRuns:
    env_folder = tmp_path_factory.mktemp("env")
    (env_folder / "agents.py").write_text(AGENTS, encoding="utf-8")
    (env_folder / "conversations.jsonl").write_text(CONVERSATIONS, encoding="utf-8")
    for name in ("train", "eval"):
        questions = [f'{{"question": "{name} {number}"}}\n' for number in range(5)]
        (env_folder / f"{name}.jsonl").write_text("".join(questions), encoding="utf-8")
    return ToyRuns(hf_folder, env_folder, tmp_path_factory.mktemp("expected"))


def _digest(state: object) -> str:
    """Return a digest of nested dicts and lists of tensors and numbers, whatever their storage."""
    hashed = sha256()

    def add(value: object) -> None:
        match value:
            case torch.Tensor():
                hashed.update(f"{value.dtype} {tuple(value.shape)}".encode())
                hashed.update(value.contiguous().numpy().tobytes())
            case dict():
                for key in sorted(value, key=repr):
                    hashed.update(repr(key).encode())
                    add(value[key])
            case list() | tuple():
                hashed.update(f"{len(value)}".encode())
                for each in value:
                    add(each)
            case _:
                hashed.update(repr(value).encode())

    add(state)
    return hashed.hexdigest()

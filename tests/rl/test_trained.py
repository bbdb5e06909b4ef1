"""A trained policy in an AgentScope program that knows nothing of training."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

import pytest
import torch
from agentscope.agent import Agent, InjectionConfig
from agentscope.message import UserMsg
from transformers import AutoModelForCausalLM, AutoTokenizer

from astuner_gym.errors import UnusableInputError
from astuner_rl.trained import load_chat_model, trained_model_folder


class ToyRuns(Protocol):
    """The fixture ``toy``."""

    def start(self, folder: Path, *overrides: str) -> int: ...
    def checkpoints(self, folder: Path) -> list[Path]: ...


def answers(path: Path, *questions: str, **settings: float) -> list[str]:
    """Return an agent's replies, its model loaded from ``path``."""
    model = load_chat_model(
        str(path),
        agent="ann",
        max_tokens=12,
        context_length=256,
        **settings,  # type: ignore[arg-type]
    )

    async def talk() -> list[str]:
        agent = Agent(
            "ann", "", model, injection_config=InjectionConfig(inject_runtime_state=False)
        )
        replies = [await agent.reply(UserMsg("user", question)) for question in questions]
        return [reply.get_text_content() or "" for reply in replies]

    return asyncio.run(talk())


def most_likely(folder: Path, question: str) -> str:
    """Return what transformers itself makes of the question."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "system", "content": ""}, {"role": "user", "content": question}],
        add_generation_prompt=True,
        return_dict=False,
    )
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        do_sample=False,
        max_new_tokens=12,
    )
    text: str = tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
    return text


@pytest.fixture(scope="module")
def run(toy: ToyRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert toy.start(folder, "train.steps=2", "algo.lr=0.05") == 0
    return folder


def test_a_runs_last_checkpoint_answers_an_agent(run: Path, toy: ToyRuns, hf_folder: Path) -> None:
    last = toy.checkpoints(run)[-1] / "hf"
    assert trained_model_folder(run) == last
    (trained,) = answers(run, "Hello?")
    assert trained == most_likely(last, "Hello?")
    assert trained != most_likely(hf_folder, "Hello?")


def test_any_hugging_face_folder_answers_an_agent(hf_folder: Path) -> None:
    assert answers(hf_folder, "Hello?") == [most_likely(hf_folder, "Hello?")]


def test_a_seed_names_what_is_drawn(hf_folder: Path) -> None:
    first = answers(hf_folder, "Hello?", "Again?", temperature=1.0, seed=1)
    assert answers(hf_folder, "Hello?", "Again?", temperature=1.0, seed=1) == first
    assert answers(hf_folder, "Hello?", "Again?", temperature=1.0, seed=2) != first


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="must be the hub id or folder of a causal"):
        load_chat_model(str(tmp_path), agent="ann")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UnusableInputError):
        load_chat_model(str(tmp_path), agent="ann")

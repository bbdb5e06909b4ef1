"""Building the tiny model: learnt, cached by recipe, whole or absent."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from astuner_gym.chat.messages import ChatMessage, ChatRole, Conversation
from astuner_gym.environment import DemonstrationSets
from astuner_gym.errors import SettingError
from astuner_rl.learning.tiny import TinyConfig, build_tiny
from astuner_rl.learning.tiny import build as build_module


def echo(word: str) -> Conversation:
    return Conversation(
        messages=(
            ChatMessage(role=ChatRole.USER, text=f"Say {word}"),
            ChatMessage(role=ChatRole.ASSISTANT, text=word),
        )
    )


ECHOES = DemonstrationSets(
    train=[echo(word) for word in ("yes", "no")] * 64, held_out=[echo("yes"), echo("no")]
)


def config(cache: Path, *, seed: int = 0) -> TinyConfig:
    return TinyConfig(
        hidden_size=128,
        layers=1,
        vocab_size=1400,
        demonstrations=128,
        passes=4,
        batch_tokens=64,
        seed=seed,
        cache=str(cache),
    )


def silent(line: str) -> None:
    pass


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder).state_dict())


def test_what_was_demonstrated_is_learnt_and_loads_without_code_of_ours(tmp_path: Path) -> None:
    folder = build_tiny(config(tmp_path), ECHOES, say=silent)

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Say no"}], add_generation_prompt=True, return_tensors="pt"
    )
    output = model.generate(**prompt, do_sample=False, max_new_tokens=4)[0]
    reply = output[prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(reply) == "no<|im_end|>"
    log = json.loads((folder / "warm_start.json").read_text())
    assert log["evaluations"][-1]["greedy"] == 1.0
    assert log["parameters"] == model.num_parameters()


def test_a_recipe_is_built_once(tmp_path: Path) -> None:
    first = build_tiny(config(tmp_path), ECHOES, say=silent)
    lines: list[str] = []
    assert build_tiny(config(tmp_path), ECHOES, say=lines.append) == first
    assert lines == []
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_a_recipe_determines_the_weights_with_any_number_of_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = build_tiny(config(tmp_path / "a"), ECHOES, say=silent)
        torch.rand(1)
        torch.set_num_threads(2)
        second = build_tiny(config(tmp_path / "b"), ECHOES, say=silent)
    finally:
        torch.set_num_threads(before)
    other = build_tiny(config(tmp_path / "b", seed=1), ECHOES, say=silent)

    assert first.name == second.name != other.name
    assert all(torch.equal(a, b) for a, b in zip(*map(_tensors, (first, second)), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(*map(_tensors, (first, other)), strict=True))


def _tensors(folder: Path) -> Iterable[torch.Tensor]:
    return weights(folder).values()


def test_other_demonstrations_are_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "_build", _write_nothing)
    more = DemonstrationSets(train=[echo("maybe"), *ECHOES.train], held_out=ECHOES.held_out)
    first = build_tiny(config(tmp_path), ECHOES, say=silent)
    assert build_tiny(config(tmp_path), more, say=silent) != first


def _write_nothing(*_: object, **__: object) -> None:
    pass


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_config: object, _sets: object, folder: Path, **_: object) -> None:
        (folder / "half").touch()
        raise RuntimeError("disk full")

    monkeypatch.setattr(build_module, "_build", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        build_tiny(config(tmp_path), ECHOES, say=silent)
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_that_build_at_once_the_first_to_finish_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(_config: object, _sets: object, folder: Path, **_: object) -> None:
        rival = folder.with_name(folder.name.split(".")[0])
        rival.mkdir()
        (rival / "by").write_text("the other")
        (folder / "by").write_text("this one")

    monkeypatch.setattr(build_module, "_build", build)
    folder = build_tiny(config(tmp_path), ECHOES, say=silent)
    assert (folder / "by").read_text() == "the other"
    assert list(tmp_path.iterdir()) == [folder]


def test_the_cache_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "_build", _write_nothing)
    monkeypatch.setenv("ASTUNER_CACHE", str(tmp_path / "cache"))
    assert build_tiny(TinyConfig(), ECHOES, say=silent).parent == tmp_path / "cache"
    monkeypatch.delenv("ASTUNER_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build_tiny(TinyConfig(), ECHOES, say=silent).parent == tmp_path / ".cache" / "astuner"


@pytest.mark.parametrize("sets", [None, DemonstrationSets(train=[], held_out=[echo("yes")])])
def test_without_demonstrations_there_is_nothing_to_imitate(
    tmp_path: Path, sets: DemonstrationSets | None
) -> None:
    with pytest.raises(SettingError, match="model=tiny must have demonstrations to imitate"):
        build_tiny(config(tmp_path), sets, say=silent)


def test_a_width_that_gives_no_pairs_of_heads_is_refused() -> None:
    with pytest.raises(SettingError, match="hidden_size must be a multiple of 64, got 100"):
        TinyConfig(hidden_size=100)

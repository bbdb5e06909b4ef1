"""That both sides of the comparison with TRL do the same work."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="the extra trl is not installed")

from benchmarks.vs_trl import (
    LOADS,
    Alternation,
    Conversation,
    Generation,
    Load,
    Ours,
    OurSetting,
    TimedTrainer,
    TrainingRow,
    TrlMode,
    as_rollout,
    make_tokenizer,
    make_trainer,
)

SINGLE = Load(tasks=2, group_size=4, task=12, reply=6)
TOOLS = Load(tasks=2, group_size=4, calls=3, task=12, reply=6, observation=5)
AGENTS = replace(TOOLS, agents=2, system=8, role=3, thought=4)
KINDS = pytest.mark.parametrize(
    "load", [SINGLE, TOOLS, AGENTS], ids=["single turn", "tool calls", "agents"]
)


def trl_side(load: Load, mode: TrlMode) -> TimedTrainer:
    return make_trainer(load, mode, steps=1, clock=Alternation(lambda: None))


def converse(*, thought: int) -> Conversation:
    conversation = Conversation(prompt=(1, 2), observations=[(9,)], thought=thought)
    conversation.answer((3, 4))
    conversation.answer((5,))
    return conversation


def test_calls_that_extend_each_other_are_one_row_with_observations_masked() -> None:
    assert converse(thought=0).as_one_row() == TrainingRow(
        prompt=(1, 2), completion=(3, 4, 9, 5), sampled=(1, 1, 0, 1)
    )


def test_calls_whose_history_was_rewritten_are_a_row_each() -> None:
    assert converse(thought=1).as_row_by_call() == [
        TrainingRow(prompt=(1, 2), completion=(3, 4), sampled=(1, 1)),
        TrainingRow(prompt=(1, 2, 4, 9), completion=(5,), sampled=(1,)),
    ]


@pytest.mark.parametrize("name", LOADS)
def test_conversations_have_the_lengths_that_are_stated(name: str) -> None:
    load = LOADS[name]
    tasks = make_tokenizer()(text=load.tasks_of(0))["input_ids"]
    for conversation in load.start(tasks):
        for _ in range(load.calls):
            conversation.answer((7,) * load.reply)
        assert [len(prompt + reply) for prompt, reply in conversation.calls] == load.lengths


def test_rows_of_an_episode_share_its_reward() -> None:
    assert AGENTS.rows_per_episode == 6
    rewards = [AGENTS.reward_of(row) for row in range(AGENTS.rows)]
    assert rewards == ([0.0] * 6 + [1.0] * 6) * 4


@KINDS
@pytest.mark.parametrize("generation", Generation)
def test_both_sides_train_every_token_that_is_sampled(load: Load, generation: Generation) -> None:
    ours = Ours(load, OurSetting(1, 1))
    ours.step()
    ours.close()
    trainer = trl_side(load, TrlMode(rows=4, generation=generation))
    trainer.train()
    assert ours.trained == trainer.trained == [load.sampled]
    by_conversation = load.lengths[-1] if load.extending else sum(load.lengths)
    assert trainer.fed == [load.conversations * by_conversation]


def test_a_kept_cache_changes_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[dict[str, Any]] = []

    def recorded(load: Load, conversations: list[Conversation]) -> dict[str, Any]:
        answered.append(as_rollout(load, conversations))
        return answered[-1]

    monkeypatch.setattr("benchmarks.vs_trl.as_rollout", recorded)
    for generation in (Generation.GENERATE, Generation.KEPT):
        trainer = trl_side(AGENTS, TrlMode(rows=4, generation=generation))
        trainer.generation_config.do_sample = False
        trainer.train()
    plain, kept = answered
    assert plain["completion_ids"] == kept["completion_ids"]


@KINDS
def test_on_the_same_tokens_both_sides_have_the_same_gradient(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations: list[Conversation] = []
    start = Load.start

    def recorded(load: Load, tasks: list[list[int]]) -> list[Conversation]:
        conversations.extend(start(load, tasks))
        return conversations

    gradients: list[torch.Tensor] = []

    def keep_gradient(parameters: Iterable[torch.Tensor], *_: object, **__: object) -> torch.Tensor:
        kept = [each.grad.flatten() for each in parameters if each.grad is not None]
        gradients.append(torch.cat(kept))
        return gradients[-1].norm()

    monkeypatch.setattr(Load, "start", recorded)
    # Both call it once before their optimizer step; unclipped gradients show their scale.
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", keep_gradient)
    ours = Ours(load, OurSetting(1, 1))
    ours.step()
    ours.close()
    trainer = trl_side(load, TrlMode(rows=4))
    trainer.rollout_func = lambda prompts, trainer: as_rollout(load, conversations)
    trainer.train()
    our_gradient, their_gradient = gradients
    compared = load.rows_per_task
    torch.testing.assert_close(
        their_gradient / math.sqrt((compared - 1) / compared), our_gradient, rtol=1e-3, atol=1e-5
    )

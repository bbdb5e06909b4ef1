"""Roles that do not learn may be played by another policy, whose calls are not in the log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatRole
from astuner_rl.assembly import build_renderer
from astuner_rl.errors import CallBudgetError
from astuner_rl.learning.pretrained import load_pretrained
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.samplers.scripted import ScriptedSampler
from astuner_rl.tracking.opponents import PolicyWithOpponent
from astuner_rl.tracking.tracker import TokenPolicy
from astuner_rl.types import EpisodeKey, SamplingParams


@pytest.fixture(scope="module")
def renderer(hf_folder: Path) -> ChatRenderer:
    return build_renderer(load_pretrained(str(hf_folder)))


def saying(renderer: ChatRenderer, text: str) -> TokenPolicy:
    sampler = ScriptedSampler.from_texts(
        [text], encode=lambda text: [*renderer.codec.encode(text), renderer.stop_token_ids[0]]
    )
    return TokenPolicy(renderer=renderer, sampler=sampler, seed=0)


def call(agent: str, role: str) -> ChatCall:
    message = ChatMessage(role=ChatRole.USER, text="Who are you?")
    return ChatCall(agent=agent, role=role, index=0, messages=(message,))


def test_a_role_decides_who_answers_and_the_learners_calls_alone_are_kept(
    renderer: ChatRenderer,
) -> None:
    policy = PolicyWithOpponent(
        policy=saying(renderer, "1"), opponent=saying(renderer, "2"), trainable=["wolf"]
    )
    responder = policy.open(EpisodeKey("train", 0, 0, 0), params=SamplingParams(), max_calls=1)
    replies = [
        asyncio.run(responder.respond(call(agent, role))).text
        for agent, role in (("Ann", "wolf"), ("Bob", "seer"))
    ]
    assert replies == ["1", "2"]
    assert [record.call.agent for record in responder.records] == ["Ann"]
    with pytest.raises(CallBudgetError):
        asyncio.run(responder.respond(call("Cat", "wolf")))
    responder.release()

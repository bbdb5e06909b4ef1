"""Group talk in tokens: prompts that extend share a row, rewritten ones branch, none is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from agentscope.agent import Agent, InjectionConfig
from agentscope.formatter import FormatterBase, OpenAIMultiAgentFormatter

from astuner_gym.chat.hub import MessageHub
from astuner_gym.chat.model import EpisodeModels
from astuner_rl.assembly import build_renderer
from astuner_rl.learning.pretrained import load_pretrained
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.samplers.scripted import ScriptedSampler
from astuner_rl.tracking.tracker import TokenPolicy
from astuner_rl.tracking.training_data import TrainingData, training_data
from astuner_rl.types import (
    CallRecord,
    Episode,
    EpisodeKey,
    EpisodeStatus,
    Group,
    SamplingParams,
)

NAMES = ("Ann", "Bob", "Cat")
TURNS = 3


@pytest.fixture(scope="module")
def renderer(hf_folder: Path) -> ChatRenderer:
    return build_renderer(load_pretrained(str(hf_folder)))


def talk(
    renderer: ChatRenderer, *, formatter: FormatterBase | None
) -> tuple[tuple[CallRecord, ...], TrainingData]:
    """Let three agents speak in turn, three times each."""
    sampler = ScriptedSampler.from_texts(
        ["1 2", "3", "4 5 6"],
        encode=lambda text: [*renderer.codec.encode(text), renderer.stop_token_ids[0]],
    )
    key = EpisodeKey("train", 0, 0, 0)
    tracker = TokenPolicy(renderer=renderer, sampler=sampler, seed=0).open(
        key, params=SamplingParams(max_tokens=16), max_calls=99
    )

    async def run() -> None:
        models = EpisodeModels(tracker, formatter=formatter)
        hub = MessageHub(
            [
                Agent(
                    name=name,
                    system_prompt="Talk.",
                    model=models[name],
                    injection_config=InjectionConfig(inject_runtime_state=False),
                )
                for name in NAMES
            ]
        )
        await hub.announce("Say a number.")
        for _ in range(TURNS):
            for agent in hub.participants:
                await hub.speak(agent)

    asyncio.run(run())
    episode = Episode(
        key=key,
        task_id="t",
        calls=tracker.records,
        status=EpisodeStatus.COMPLETED,
        rewards=dict.fromkeys(NAMES, 1.0),
    )
    groups = [Group(task_id="t", episodes=(episode,))]
    return tracker.records, training_data(groups, trainable=None)


def test_prompts_of_the_own_formatter_extend_so_an_agent_is_one_row(
    renderer: ChatRenderer,
) -> None:
    records, data = talk(renderer, formatter=None)
    assert [record.extends for record in records] == [None, 0, 1] * len(NAMES)
    assert [len(unit.timelines) for unit in data.agent_episodes] == [1, 1, 1]


def test_the_multi_agent_formatter_rewrites_history_so_each_call_is_a_row_of_its_own(
    renderer: ChatRenderer,
) -> None:
    records, data = talk(renderer, formatter=OpenAIMultiAgentFormatter())
    assert [record.extends for record in records] == [None] * TURNS * len(NAMES)
    assert [len(unit.timelines) for unit in data.agent_episodes] == [TURNS] * len(NAMES)
    # training_data has checked that each token is trained once, behind the tokens it was sampled
    # behind; here that none is missing.
    assert (
        data.certificate.trained
        == data.sampled
        == sum(len(record.completion.token_ids) for record in records)
    )

"""Roles that do not learn may be played by another policy, whose calls are not in the log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from agentscope.message import UserMsg

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatRole
from astuner_gym.environment import Environment
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.assembly import build_renderer
from astuner_rl.errors import CallBudgetError
from astuner_rl.learning.pretrained import load_pretrained
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.samplers.scripted import ScriptedSampler
from astuner_rl.tracking.opponents import PolicyWithOpponent
from astuner_rl.tracking.tracker import TokenPolicy
from astuner_rl.types import EpisodeKey, EpisodeStatus, SamplingParams


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


class Duel:
    """A wolf and a seer, each called and rewarded once while the game runs."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        for agent, role in (("Ann", "wolf"), ("Bob", "seer")):
            await models.for_role(agent, role=role)([UserMsg("user", "Who are you?")])
            models.reward(agent, 0.5)
        return WorkflowResult(output="")


def test_an_opponents_agents_may_be_rewarded_and_earn_nothing_in_the_run(
    renderer: ChatRenderer,
) -> None:
    policy = PolicyWithOpponent(
        policy=saying(renderer, "1"), opponent=saying(renderer, "2"), trainable=["wolf"]
    )
    environment = Environment(
        name="duel",
        workflow=Duel(),
        judge=FunctionJudge(lambda task, result: 1.0),
        train_tasks=RecordTasks("t", [{}]),
    )
    runner = EpisodeRunner(environment=environment, policy=policy, config=RolloutConfig())
    episode = asyncio.run(
        runner.run(
            environment.train_tasks[0], EpisodeKey("train", 0, 0, 0), params=SamplingParams()
        )
    )
    assert episode.status is EpisodeStatus.COMPLETED, episode.reason
    assert episode.rewards == {"Ann": 1.5}
    assert episode.call_rewards == {"Ann": (0.5,)}

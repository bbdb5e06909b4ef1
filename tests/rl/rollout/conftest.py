"""Rollouts of scripted agents: policy and workflow are functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.environment import Environment
from astuner_gym.judge import FunctionJudge, Judge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.errors import CallBudgetError
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.types import (
    CallRecord,
    Completion,
    EpisodeKey,
    FinishReason,
    SamplingParams,
)

Answer = Callable[[EpisodeKey, ChatCall], Awaitable[ChatReply]]
Program = Callable[[Task, Models], Awaitable[WorkflowResult]]


@dataclass
class ScriptedPolicy:
    """Answers by function, and keeps which episodes were opened and released."""

    answer: Answer
    opened: list[EpisodeKey] = field(default_factory=list)
    released: list[EpisodeKey] = field(default_factory=list)

    def open(self, key: EpisodeKey, *, params: SamplingParams, max_calls: int) -> ScriptedResponder:
        self.opened.append(key)
        return ScriptedResponder(self, key, params=params, max_calls=max_calls)


class ScriptedResponder:
    """Answers one episode; each reply is recorded as three sampled tokens."""

    def __init__(
        self, policy: ScriptedPolicy, key: EpisodeKey, *, params: SamplingParams, max_calls: int
    ) -> None:
        self._policy = policy
        self._key = key
        self._params = params
        self._max_calls = max_calls
        self._records: list[CallRecord] = []

    async def respond(self, call: ChatCall) -> ChatReply:
        if len(self._records) >= self._max_calls:
            raise CallBudgetError("one call too many")
        reply = await self._policy.answer(self._key, call)
        completion = Completion(
            token_ids=(7, 8, 9),
            logprobs=(-1.0, -1.0, -1.0),
            finish_reason=FinishReason.STOP,
            policy_version=0,
        )
        self._records.append(
            CallRecord(
                call=call,
                reply=reply,
                prompt_ids=(1,),
                completion=completion,
                extends=None,
                params=self._params,
            )
        )
        return reply

    @property
    def records(self) -> tuple[CallRecord, ...]:
        return tuple(sorted(self._records, key=lambda r: (r.call.agent, r.call.index)))

    def release(self) -> None:
        self._policy.released.append(self._key)


@dataclass(frozen=True)
class ProgramWorkflow:
    """A workflow from a function."""

    program: Program

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        return await self.program(task, models)


def make_runner(
    program: Program,
    answer: Answer,
    *,
    judge: Judge | None = None,
    config: RolloutConfig | None = None,
) -> tuple[EpisodeRunner, ScriptedPolicy]:
    """Return a runner of ``program`` answered by ``answer``; the judge gives 1 by default."""
    policy = ScriptedPolicy(answer)
    environment = Environment(
        name="scripted",
        workflow=ProgramWorkflow(program),
        judge=judge or FunctionJudge(lambda task, result: 1.0),
        train_tasks=RecordTasks("task", [{"number": number} for number in range(9)]),
    )
    runner = EpisodeRunner(
        environment=environment, policy=policy, config=config or RolloutConfig(attempts=1)
    )
    return runner, policy


@pytest.fixture
def runner_of() -> Callable[..., tuple[EpisodeRunner, ScriptedPolicy]]:
    return make_runner

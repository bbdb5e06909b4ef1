"""A workflow as an environment of verifiers, in its current classes (``verifiers.v1``).

A harness of verifiers owns the agent's loop and sends every model call to an endpoint that records
it; so the workflow is the harness. Tasks come from a taskset and are scored by the judge, also
offline, from the recorded result. verifiers finds the three classes in a module by its name, so a
module of the user's, say ``my_gsm8k.py``, holds them::

    MyTaskset, MyHarness, MyEnv = plugin(Gsm8kConfig().build())
    __all__ = ["MyTaskset", "MyHarness", "MyEnv"]

and ``eval my_gsm8k --model …`` evaluates it. All agents are played by the model under evaluation,
or ``agent`` alone where an opponent answers for the others; a run has one reward, that agent's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import httpx
import verifiers.v1 as vf

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, Responder
from astuner_gym.chat.model import EpisodeModels
from astuner_gym.chat.openai_format import message_from_openai, message_to_openai
from astuner_gym.environment import Environment
from astuner_gym.episode import judge_result, run_workflow
from astuner_gym.errors import JudgeError, SettingError
from astuner_gym.judge import GivenReward
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult

_INFO = "astuner"
"""Key in a trace's ``info`` of what the judge needs."""
_TRAIN = "train"


class WorkflowTaskData(vf.TaskData):
    """A task on the wire."""

    record: dict[str, Any]
    """The fields of the task's record."""

    @property
    def task(self) -> Task:
        """The task."""
        return Task(id=self.name, record=self.record)


class WorkflowTasksetConfig(vf.TasksetConfig):
    """Settings of the taskset."""

    tasks: str = _TRAIN
    """``train``, or the name of one of the environment's held-out sets."""


class WorkflowEnvConfig(vf.EnvConfig):
    """Settings of the environment."""

    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    """Who plays; the workflow runs in the process of the harness, so it needs no sandbox."""


class WorkflowEnv(vf.Env[WorkflowEnvConfig]):
    """An episode is one run of the workflow."""

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        """Run the workflow."""
        await agents.agent.run(task)


def plugin(
    environment: Environment, *, agent: str | None = None, opponent: Responder | None = None
) -> tuple[type[vf.Taskset], type[vf.Harness], type[vf.Env]]:
    """Return the classes that a plugin module exports: taskset, harness and environment.

    Args:
        environment: Workflow, judge and tasks.
        agent: The agent whom the model plays; None for all of them.
        opponent: Answers for all agents but ``agent``.

    Raises:
        SettingError: One of ``agent`` and ``opponent`` is given without the other.
    """
    if (agent is None) != (opponent is None):
        raise SettingError(
            "agent and opponent go together, one names the agent that the model plays and the "
            f"other answers for the rest; got {agent=}, {opponent=}"
        )

    class Judged(vf.Task[WorkflowTaskData, vf.State, vf.TaskConfig]):
        """A task that the environment's judge scores."""

        @vf.reward
        async def judge(self, trace: vf.Trace) -> float:
            """Return the reward of the agent whom the model played; record the other figures."""
            result = _result(trace)
            score = await judge_result(environment.judge, self.data.task, result)
            left = trace.info[_INFO]
            given = [GivenReward(**gift) for gift in left["given"]]
            score = score.with_given(given, calls=left["calls"])
            trace.record_metrics(
                {
                    "success": float(score.success),
                    "truncated": float(result.truncated),
                    **{f"workflow/{name}": value for name, value in result.metrics.items()},
                    **{f"judge/{name}": value for name, value in score.metrics.items()},
                }
            )
            agents = [agent] if agent is not None else trace.info[_INFO]["agents"]
            rewards = {score.reward(each) for each in agents}
            if len(rewards) != 1:
                raise JudgeError(
                    f"a run has one reward in verifiers, got {sorted(rewards)} for {agents}; name "
                    "the agent and give an opponent for the others"
                )
            return rewards.pop()

    class Tasks(vf.Taskset[Judged, WorkflowTasksetConfig]):
        """The environment's tasks."""

        def load(self) -> Iterator[Judged]:
            """Yield the tasks of the set that is configured."""
            sets = {_TRAIN: environment.train_tasks, **environment.eval_tasks}
            if self.config.tasks not in sets:
                raise SettingError(f"tasks must be one of {[*sets]}, got {self.config.tasks!r}")
            tasks = sets[self.config.tasks]
            for index in range(len(tasks)):
                task = tasks[index]
                # verifiers wants a prompt; the workflow makes its own from the record.
                data = WorkflowTaskData(name=task.id, prompt=task.id, record=dict(task.record))
                yield Judged(data, self.config.task)

    class Workflow(vf.Harness[vf.HarnessConfig]):
        """Runs the workflow in this process, its calls answered by the endpoint."""

        EXECUTES_CODE = False
        NEEDS_CONTAINER = False

        async def launch(  # noqa: PLR0917, the signature is verifiers' own
            self,
            ctx: vf.ModelContext,
            trace: vf.Trace,
            runtime: vf.Runtime,
            endpoint: str,
            secret: str,
            mcp_urls: dict[str, str],
            data: WorkflowTaskData,
        ) -> vf.ProgramResult:
            """Run the workflow and leave its result in the trace."""
            headers = {"Authorization": f"Bearer {secret}"}
            async with httpx.AsyncClient(
                base_url=endpoint, headers=headers, timeout=None
            ) as client:
                player = _Endpoint(client, ctx.model)
                seats = player if agent is None else _Seats(agent, player, opponent)
                models = EpisodeModels(seats)
                result = await run_workflow(environment.workflow, data.task, models)
            trace.info[_INFO] = {
                "output": result.output,
                "truncated": result.truncated,
                "metrics": dict(result.metrics),
                "agents": sorted({*models.calls, *models.left, *(g.agent for g in models.given)}),
                "given": [asdict(gift) for gift in models.given],
                "calls": dict(models.calls),
            }
            return vf.ProgramResult(exit_code=0, stdout="", stderr="")

    return Tasks, Workflow, WorkflowEnv


def _result(trace: vf.Trace) -> WorkflowResult:
    if _INFO not in trace.info:
        raise JudgeError(
            "a workflow must have ended to be judged, and this one was stopped by "
            f"{trace.stop_condition!r}; raise that limit"
        )
    left = trace.info[_INFO]
    return WorkflowResult(
        output=left["output"], truncated=left["truncated"], metrics=left["metrics"]
    )


class _Endpoint:
    """Answers calls from an endpoint of OpenAI's chat API.

    Replies go back to it with the ids that it gave to their tool calls, not with the agent's own:
    verifiers takes a message with another id for another one, and each call for a new branch.
    """

    def __init__(self, client: httpx.AsyncClient, model: str) -> None:
        self._client = client
        self._model = model
        self._ids: dict[str, str] = {}
        """The endpoint's id of a tool call, by the agent's."""

    async def respond(self, call: ChatCall) -> ChatReply:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [message_to_openai(self._with_its_ids(said)) for said in call.messages],
        }
        if call.tools:
            body["tools"] = list(call.tools)
        response = await self._client.post("chat/completions", json=body)
        response.raise_for_status()
        said = message_from_openai(response.json()["choices"][0]["message"])
        reply = ChatReply(text=said.text, thinking=said.thinking, tool_calls=said.tool_calls)
        own = reply.with_call_ids(f"{call.agent}-{call.index}").tool_calls
        self._ids |= {ours.id: its.id for ours, its in zip(own, said.tool_calls, strict=True)}
        return reply

    def _with_its_ids(self, message: ChatMessage) -> ChatMessage:
        return replace(
            message,
            tool_calls=tuple(
                replace(call, id=self._ids.get(call.id, call.id)) for call in message.tool_calls
            ),
            tool_call_id=self._ids.get(message.tool_call_id, message.tool_call_id),
        )


class _Seats:
    """Puts one agent's calls to the player and all others to the opponent."""

    def __init__(self, agent: str, player: Responder, opponent: Responder | None) -> None:
        assert opponent is not None, "whoever names an agent gives an opponent"
        self._agent = agent
        self._player = player
        self._opponent = opponent

    async def respond(self, call: ChatCall) -> ChatReply:
        answers = self._player if call.agent == self._agent else self._opponent
        return await answers.respond(call)

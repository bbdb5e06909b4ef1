"""A workflow with one agent as an environment of TRL's ``GRPOTrainer``.

TRL owns the agent's loop: it samples a reply, calls the tools that the reply asks for, appends
their results and goes on until a reply asks for none. The workflow owns the same loop. So each
tool call of TRL answers the workflow's open call with a reply that holds this tool call, and what
the workflow puts before its agent next is the tool's result; the last reply answers the call that
is then open and ends the episode. What tools do, how many calls there may be and what the episode
is worth stay the workflow's and its judge's::

    episodes = ToolEpisodes(environment)
    GRPOTrainer(
        model,
        episodes.rewards,
        train_dataset=Dataset.from_list(episodes.rows(range(1000))),
        environment_factory=episodes.make,
    )

TRL shows an environment neither the text beside a tool call nor which calls came in one reply: the
workflow sees a reply without text for each of them. A reply that TRL cuts short is judged as it
stands. ``get_reward``, which TRL calls without the reply, could not judge it; so the reward is a
reward function, which is given the completions.
"""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from astuner_gym.chat.messages import ChatCall, ChatReply, ChatRole, Responder, ToolCall
from astuner_gym.chat.openai_format import message_to_openai
from astuner_gym.chat.tool_functions import tool_function
from astuner_gym.env import Info, WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError, UnusableInputError, WorkflowError
from astuner_gym.stepped_episode import check_action
from astuner_gym.task import JsonValue, TaskSource

_log = logging.getLogger(__name__)


class ToolEpisodes:
    """What a ``GRPOTrainer`` needs of an environment: dataset rows, episodes and rewards."""

    def __init__(
        self,
        environment: Environment,
        *,
        tasks: TaskSource | None = None,
        agent: str | None = None,
        opponent: Responder | None = None,
        deadline_s: float = 300.0,
    ) -> None:
        """Learn the agent's tools from its first call on the first task.

        Args:
            environment: Workflow, judge and tasks.
            tasks: Tasks that rows point to; the environment's training tasks if None.
            agent: The agent who is trained; None where the workflow has one agent.
            opponent: Answers for all agents but ``agent``.
            deadline_s: Seconds after which a step that does not come to rest is an error.

        Raises:
            SettingError: A tool cannot be a method, or has a name that TRL takes for another one.
            WorkflowError: The workflow failed, made no call, or has several agents at once.
        """
        self._environment = environment
        self._tasks = tasks
        self._controlled = None if agent is None else (agent,)
        self._opponent = opponent
        self._deadline_s = deadline_s
        with self._make_env() as env:
            self._tools = _only_call(env.reset(options={"task": 0})[1]).tools
        methods = {each.__name__: each for each in map(_method, self._tools)}
        self._episode_class = type("ToolEpisode", (ToolEpisode,), methods)

    def make(self) -> ToolEpisode:
        """Return what plays one episode at a time: the ``environment_factory``."""
        episode: ToolEpisode = self._episode_class(self._make_env(), self._tools)
        return episode

    def rows(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """Return a row for each task: the ``prompt`` of its first call, its index as ``task``.

        Raises:
            SettingError: There is no task of that index.
            WorkflowError: The workflow failed, made no call, or has several agents at once.
        """
        rows = []
        with self._make_env() as env:
            for index in indices:
                call = _only_call(env.reset(options={"task": index})[1])
                prompt = [message_to_openai(message) for message in call.messages]
                rows.append({"prompt": prompt, "task": index})
        return rows

    def rewards(
        self,
        *,
        completions: Sequence[Sequence[Mapping[str, Any]]],
        environments: Sequence[ToolEpisode],
        **_: object,
    ) -> list[float | None]:
        """Give each episode its last reply and return the judge's rewards.

        A failed episode has None: TRL leaves it out of its group's baseline and does not train it.
        """
        return [
            episode._finish(completion)
            for episode, completion in zip(environments, completions, strict=True)
        ]

    def _make_env(self) -> WorkflowEnv:
        return WorkflowEnv(
            self._environment,
            tasks=self._tasks,
            controlled=self._controlled,
            opponent=self._opponent,
            deadline_s=self._deadline_s,
        )


class ToolEpisode:
    """Plays one episode after the other. TRL takes each public method but ``reset`` for a tool."""

    def __init__(self, env: WorkflowEnv, tools: Sequence[Mapping[str, JsonValue]]) -> None:
        """Hold ``env``, whose agent is offered ``tools``; it is closed with this object."""
        self._env = env
        self._tools = tools
        self._call: ChatCall | None = None
        self._given = 0.0
        """Rewards that have fallen in the episode so far."""
        self._reward: float | None = None
        weakref.finalize(self, env.close)

    def reset(self, *, prompt: Sequence[Mapping[str, Any]], task: int, **_: object) -> None:
        """Start an episode on a row of :meth:`ToolEpisodes.rows`; other columns mean nothing.

        Raises:
            SettingError: The row's prompt is not that of the task's first call.
        """
        self._call = self._reward = None
        self._given = 0.0
        try:
            self._call = _only_call(self._env.reset(options={"task": task})[1])
            self._check_tools(self._call)
        except UnusableInputError:
            raise
        except Exception as error:  # as in ``_finish``
            self._drop(error)
            return
        first = map(message_to_openai, self._call.messages)
        if [(said["role"], said["content"]) for said in prompt] != [
            (said["role"], said["content"]) for said in first
        ]:
            raise SettingError(
                f"a row's prompt must be that of its task's first call, got another for task {task}"
                "; make the rows with ToolEpisodes.rows() from the same environment and tasks"
            )

    def _call_tool(self, name: str, arguments: Mapping[str, JsonValue]) -> str:
        """Return the tool's result; TRL puts what is raised here into the result's place.

        Raises:
            InvalidAction: The arguments are no text that can be encoded; the agent may call again.
            WorkflowError: The episode is over, or failed.
        """
        if self._call is None:
            raise WorkflowError(f"the episode is over, so {name} cannot be called any more")
        known = self._call.messages
        reply = ChatReply(
            text="", tool_calls=(ToolCall(name, json.dumps(arguments, ensure_ascii=False)),)
        )
        check_action(self._call.agent, reply)
        try:
            self._answer(reply)
            if self._call is None:
                return ""
            self._check_tools(self._call)
            prompt = self._call.messages
            if prompt[: len(known)] != known:
                raise WorkflowError(
                    "an agent's prompts must extend each other, since TRL only appends to them, "
                    "and this workflow rewrote its history"
                )
        except UnusableInputError:
            raise
        except Exception as error:  # as in ``_finish``
            self._drop(error)
            raise
        new = prompt[len(known) :]
        return "\n\n".join(said.text for said in new if said.role is not ChatRole.ASSISTANT)

    def _finish(self, completion: Sequence[Mapping[str, Any]]) -> float | None:
        """Return the reward; None if the episode failed."""
        if self._call is not None:
            last = completion[-1] if completion else {}
            # A result of a tool comes last where TRL's limits left no room for a reply.
            text = last["content"] if last.get("role") == ChatRole.ASSISTANT else ""
            try:
                self._answer(ChatReply(text=text, thinking=last.get("reasoning_content") or ""))
                if self._call is not None:
                    raise WorkflowError(
                        "a workflow must end with its agent's first reply that calls no tool, as "
                        f"TRL's loop does, and this one calls {self._call.agent!r} again"
                    )
            except UnusableInputError:
                raise
            except Exception as error:  # an opponent may raise anything, and training goes on
                self._drop(error)
        return self._reward

    def _answer(self, reply: ChatReply) -> None:
        assert self._call is not None, "whoever answers has looked"
        agent, self._call = self._call.agent, None
        _, rewards, _, _, infos = self._env.step({agent: reply})
        self._given += rewards.get(agent, 0.0)
        if self._env.agents:
            self._call = _only_call({due: infos[due] for due in self._env.agents})
        else:
            self._reward = self._given

    def _check_tools(self, call: ChatCall) -> None:
        if call.tools != tuple(self._tools):
            raise WorkflowError(
                "an agent must have the same tools in all calls, since TRL's prompt lists them "
                f"once, got {call.tools} where the first task has {self._tools}"
            )

    def _drop(self, error: Exception) -> None:
        self._call = self._reward = None
        _log.warning("an episode failed and is not trained: %s", error)


def _only_call(infos: Mapping[str, Info]) -> ChatCall:
    if len(infos) != 1:
        raise WorkflowError(
            f"one agent must act at a time for TRL, got {sorted(infos)}; name the agent and give "
            "an opponent for the others"
        )
    ((_, info),) = infos.items()
    return info["call"]


def _method(tool: Mapping[str, Any]) -> Any:
    name = tool["function"]["name"]
    if name.startswith("_") or name in ("reset", "get_reward"):
        raise SettingError(
            "a tool must have a public name other than reset and get_reward for TRL to see it, "
            f"got {name!r}; rename it"
        )
    return tool_function(tool, ToolEpisode._call_tool)

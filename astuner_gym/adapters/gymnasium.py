"""A workflow as a single-agent ``gymnasium.Env`` of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatRole, Responder
from astuner_gym.chat.parsers import ReplyParser
from astuner_gym.env import Info, Start, Step, WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.errors import WorkflowError
from astuner_gym.spaces import UnicodeText
from astuner_gym.task import TaskSource


class GymnasiumEnv(gymnasium.Env[str, str]):
    """Steps the one agent who acts; an opponent, where given, answers for all others.

    An action is the text of a reply, tool calls in the parser's format included. An observation is
    what the agent has to read since its last turn (:func:`new_text`), and ``""`` at the end;
    ``info["call"]`` holds the whole call with its tools, ``info["success"]`` and
    ``info["metrics"]`` come at the end. A step's reward is that of the agent who acted in it.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(
        self,
        environment: Environment,
        *,
        agent: str | None = None,
        opponent: Responder | None = None,
        tasks: TaskSource | None = None,
        parser: ReplyParser | None = None,
        deadline_s: float = 300.0,
    ) -> None:
        """Make the environment.

        Args:
            environment: Workflow, judge and tasks.
            agent: The agent who is stepped; None where the workflow has one agent at a time.
            opponent: Answers for all agents but ``agent``.
            tasks: Tasks to draw from; the environment's training tasks if None.
            parser: Reads actions; the Hermes format if None.
            deadline_s: Seconds after which a step that does not come to rest is an error.

        Raises:
            SettingError: One of ``agent`` and ``opponent`` is given without the other.
        """
        self._env = WorkflowEnv(
            environment,
            tasks=tasks,
            controlled=None if agent is None else (agent,),
            opponent=opponent,
            parser=parser,
            deadline_s=deadline_s,
        )
        self._view = SingleAgentView()
        limit = self._env.action_space("").max_length
        self.action_space = UnicodeText(limit)
        self.observation_space = UnicodeText(limit)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, int] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; see :meth:`WorkflowEnv.reset`.

        Raises:
            WorkflowError: The workflow failed, made no call, or has several agents acting at once.
        """
        super().reset(seed=seed)
        return self._view.start(self._env.reset(seed=seed, options=options))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Answer the agent's call; see :meth:`WorkflowEnv.step`.

        Raises:
            InvalidAction: The action is no text of the action space; another one may follow.
            ResetNeeded: No episode is under way.
            WorkflowError: The workflow failed, or has several agents acting at once.
            JudgeError: The judge failed.
        """
        return self._view.step(self._env.step(dict.fromkeys(self._env.agents, action)))

    def close(self) -> None:
        """End the episode, its tasks and its thread."""
        self._env.close()


class SingleAgentView:
    """What the one agent who acts sees of an episode."""

    def __init__(self) -> None:
        """See nothing yet."""
        self._call: ChatCall | None = None

    def start(self, start: Start) -> tuple[str, dict[str, Any]]:
        """Return observation and info after a reset.

        Raises:
            WorkflowError: There was no call, or several agents act at once.
        """
        self._call = None
        _, infos = start
        if not infos:
            raise WorkflowError("a workflow must call its model to be stepped, and this one ended")
        return self._observe(infos)

    def step(self, step: Step) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Return observation, reward, terminated, truncated and info after a step.

        Raises:
            WorkflowError: Several agents act at once.
        """
        observations, rewards, terminations, truncations, infos = step
        agent = self._call.agent if self._call is not None else ""
        if observations:
            observation, info = self._observe({name: infos[name] for name in observations})
            return observation, rewards.get(agent, 0.0), False, False, info
        self._call = None
        return (
            "",
            float(rewards[agent]),
            terminations[agent],
            truncations[agent],
            dict(infos[agent]),
        )

    def _observe(self, infos: Mapping[str, Info]) -> tuple[str, dict[str, Any]]:
        if len(infos) > 1:
            raise WorkflowError(
                f"one agent must act at a time in a single-agent environment, got {sorted(infos)}; "
                "name the agent and give an opponent for the others"
            )
        ((_, info),) = infos.items()
        before, self._call = self._call, info["call"]
        # The first agent's history says nothing about what another one has read.
        known = before.messages if before and before.agent == self._call.agent else ()
        return new_text(known, self._call.messages), dict(info)


def new_text(known: Sequence[ChatMessage], prompt: Sequence[ChatMessage]) -> str:
    r"""Return what ``prompt`` holds beyond the ``known`` one, as text to read.

    The agent's own reply to the known prompt is left out. A prompt that does not extend the known
    one, because its history was rewritten, is returned whole.

    Example: after the prompt ``user: "2+3?"``, the prompt that goes on with the assistant's tool
    call and its result gives ``"tool add: 5"``.
    """
    new = list(prompt)
    if known and tuple(new[: len(known)]) == tuple(known):
        new = new[len(known) :]
        if new and new[0].role is ChatRole.ASSISTANT:
            del new[0]
    return "\n\n".join(map(_readable, new))


def _readable(message: ChatMessage) -> str:
    speaker = f"tool {message.name}" if message.role is ChatRole.TOOL else message.role.value
    calls = (f"{call.name}({call.arguments})" for call in message.tool_calls)
    return f"{speaker}: " + "\n".join(filter(None, (message.text, *calls)))

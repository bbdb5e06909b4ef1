"""A workflow as a single-agent ``gymnasium.Env`` of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import gymnasium

from astuner_gym.adapters.reading import Reading
from astuner_gym.chat.messages import Responder
from astuner_gym.chat.parsers import ReplyParser
from astuner_gym.env import Info, Start, Step, WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.errors import WorkflowError
from astuner_gym.spaces import UnicodeText
from astuner_gym.task import TaskSource


class GymnasiumEnv(gymnasium.Env[str, str]):
    """Steps the one agent who acts; an opponent, where given, answers for all others.

    An action is the text of a reply, tool calls in the parser's format included. An observation is
    what the agent has to read since its own last turn (``Reading``), and ``""`` at the end;
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
        start = self._env.reset(seed=seed, options=options)
        with self._abandoned_on_failure():
            return self._view.start(start)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Answer the agent's call; see :meth:`WorkflowEnv.step`.

        Raises:
            InvalidAction: The action is no text of the action space; another one may follow.
            ResetNeeded: No episode is under way.
            WorkflowError: The workflow failed, or has several agents acting at once.
            JudgeError: The judge failed.
        """
        step = self._env.step(dict.fromkeys(self._env.agents, action))
        with self._abandoned_on_failure():
            return self._view.step(step)

    def close(self) -> None:
        """End the episode, its tasks and its thread."""
        self._env.close()

    @contextmanager
    def _abandoned_on_failure(self) -> Iterator[None]:
        try:
            yield
        except WorkflowError:
            self._env.abandon()
            raise


class SingleAgentView:
    """What the one agent who acts sees of an episode."""

    def __init__(self) -> None:
        """See nothing yet."""
        self._agent = ""
        self._reading = Reading()

    def start(self, start: Start) -> tuple[str, dict[str, Any]]:
        """Return observation and info after a reset.

        Raises:
            WorkflowError: There was no call, or several agents act at once.
        """
        self._reading = Reading()
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
        agent = self._agent
        if observations:
            observation, info = self._observe({name: infos[name] for name in observations})
            return observation, rewards.get(agent, 0.0), False, False, info
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
        ((self._agent, info),) = infos.items()
        return self._reading.new(info["call"]), dict(info)

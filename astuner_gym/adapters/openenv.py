"""A workflow behind OpenEnv: a server with a session for each client, and the client.

The server steps one agent, by text; an opponent on the server answers for all others. A client
that talks to a chat model takes ``messages`` and ``tools`` of an observation, one that keeps its
own history takes ``text``, which holds what is new::

    uvicorn.run(make_app(environment), host="127.0.0.1", port=8000)

    with WorkflowClient("http://127.0.0.1:8000").sync() as client:
        result = client.reset(seed=0)
        while not result.done:
            result = client.step(Reply(text=policy(result.observation)))
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment as OpenEnvironment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field

from astuner_gym.adapters.gymnasium import GymnasiumEnv
from astuner_gym.chat.messages import Responder
from astuner_gym.chat.openai_format import message_to_openai
from astuner_gym.chat.parsers import ReplyParser
from astuner_gym.environment import Environment
from astuner_gym.task import TaskSource

if TYPE_CHECKING:
    from fastapi import FastAPI


class Reply(Action):
    """What the agent answers."""

    text: str
    """Tool calls included, in the format of the server's parser."""


class Prompt(Observation):
    """What the agent has to read; the base class adds ``reward`` and ``done``."""

    text: str = ""
    """What is new since its last turn."""
    messages: list[dict[str, Any]] = Field(default_factory=list)
    """The whole prompt, in the format of OpenAI's chat API; empty at the end."""
    tools: list[dict[str, Any]] = Field(default_factory=list)
    """Schemas of the tools on offer, in the same format."""
    truncated: bool = False
    """Whether the episode is done because a limit cut it short."""
    success: bool | None = None
    """Whether the episode counts as solved; None before its end."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Figures of workflow and judge, at the end."""


class EpisodeState(State):
    """Where a session is; the base class adds ``episode_id`` and ``step_count``."""

    task: str | None = None
    """Id of the task; None before the first reset."""


class WorkflowServer(OpenEnvironment[Reply, Prompt, EpisodeState]):
    """One session: steps an episode at a time."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, env: GymnasiumEnv) -> None:
        """Serve ``env``, which is closed with the session."""
        super().__init__()
        self._env = env
        self._state = EpisodeState()

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        task: int | None = None,
        **_: object,
    ) -> Prompt:
        """Start an episode; ``task`` chooses one by its index, else it is drawn from the seed."""
        options = None if task is None else {"task": task}
        text, info = self._env.reset(seed=seed, options=options)
        self._state = EpisodeState(episode_id=episode_id, task=info["task"])
        return _prompt(text, info)

    def step(self, action: Reply, timeout_s: float | None = None, **_: object) -> Prompt:
        """Answer the agent's call; how long that may take was set when the server was made."""
        text, reward, terminated, truncated, info = self._env.step(action.text)
        self._state.step_count += 1
        if not (terminated or truncated):
            prompt = _prompt(text, info)
            prompt.reward = reward
            return prompt
        return Prompt(
            done=True,
            reward=reward,
            truncated=truncated,
            success=info["success"],
            metrics=info["metrics"],
        )

    @property
    def state(self) -> EpisodeState:
        """Where the session is."""
        return self._state

    def close(self) -> None:
        """End the episode and its thread."""
        self._env.close()


class WorkflowClient(EnvClient[Reply, Prompt, EpisodeState]):
    """A session with a server of :func:`make_app`; ``sync()`` is for code that does not await."""

    def _step_payload(self, action: Reply) -> dict[str, Any]:
        return {"text": action.text}

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[Prompt]:
        reward, done = payload["reward"], payload["done"]
        prompt = Prompt(**payload["observation"], reward=reward, done=done)
        return StepResult(observation=prompt, reward=reward, done=done)

    def _parse_state(self, payload: dict[str, Any]) -> EpisodeState:
        return EpisodeState(**payload)


def make_app(
    environment: Environment,
    *,
    agent: str | None = None,
    opponent: Responder | None = None,
    tasks: TaskSource | None = None,
    parser: ReplyParser | None = None,
    deadline_s: float = 300.0,
    max_sessions: int = 64,
) -> FastAPI:
    """Return the server's application; serve it on a loopback address, for it has no guard.

    Args:
        environment: Workflow, judge and tasks.
        agent: The agent who is stepped; None where the workflow has one agent at a time.
        opponent: Answers for all agents but ``agent``.
        tasks: Tasks to draw from; the environment's training tasks if None.
        parser: Reads replies; the Hermes format if None.
        deadline_s: Seconds after which a step that does not come to rest is an error.
        max_sessions: Clients at once; a further one is refused.
    """
    make_env = partial(
        GymnasiumEnv,
        environment,
        agent=agent,
        opponent=opponent,
        tasks=tasks,
        parser=parser,
        deadline_s=deadline_s,
    )
    app: FastAPI = create_fastapi_app(
        lambda: WorkflowServer(make_env()),
        Reply,
        Prompt,
        max_concurrent_envs=max_sessions,
        env_name=environment.name,
        state_cls=EpisodeState,
    )
    return app


def _prompt(text: str, info: dict[str, Any]) -> Prompt:
    call = info["call"]
    return Prompt(
        text=text,
        messages=[message_to_openai(message) for message in call.messages],
        tools=[dict(tool) for tool in call.tools],
    )

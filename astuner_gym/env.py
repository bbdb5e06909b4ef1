"""A workflow as a multi-agent environment: each model call is a turn of the agent that made it.

``reset`` starts an episode and ``step`` answers the calls that it returned; both come back when
nothing can go on without further answers (:mod:`astuner_gym.quiescence`). So the agents who must
act now are those with an open call, sorted by name, however long their tools took::

    observations, infos = env.reset(seed=0)
    while observations:
        actions = {agent: policy(observation) for agent, observation in observations.items()}
        observations, rewards, terminations, truncations, infos = env.step(actions)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Self

from agentscope.formatter import FormatterBase
from gymnasium.error import ResetNeeded

from astuner_gym.chat.messages import Responder
from astuner_gym.chat.model import DEFAULT_CONTEXT_SIZE
from astuner_gym.chat.parsers import HermesParser, ReplyParser
from astuner_gym.environment import Environment
from astuner_gym.episode_thread import EpisodeThread
from astuner_gym.quiescence import QuiescentLoop
from astuner_gym.spaces import Messages, UnicodeText
from astuner_gym.stepped_episode import (
    MAX_TEXT,
    Action,
    EpisodeSettings,
    Info,
    Observation,
    Start,
    Step,
    SteppedEpisode,
    advance,
    cancel_all,
)
from astuner_gym.task import TaskSource
from astuner_gym.task_draws import TaskDraws

__all__ = ["Action", "Info", "Observation", "Start", "Step", "WorkflowEnv"]


class WorkflowEnv:
    """Steps an environment's workflow; one episode at a time, in a thread of its own.

    Observations are those of the agents who must act now; the other dicts of a step also hold the
    agents who got a reward in it or left, terminated. At the end of the episode there are no
    observations, and the other dicts hold every stepped agent that acted in it, got a reward or
    left. One agent's concurrent calls are put to it one after the other.

    Use it as a context manager, or call :meth:`close`, to end the thread.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        tasks: TaskSource | None = None,
        controlled: Collection[str] | None = None,
        opponent: Responder | None = None,
        parser: ReplyParser | None = None,
        context_size: int = DEFAULT_CONTEXT_SIZE,
        formatter: FormatterBase | None = None,
        deadline_s: float = 300.0,
    ) -> None:
        """Make the environment; nothing runs before :meth:`reset`.

        Args:
            environment: Workflow, judge and tasks.
            tasks: Tasks to draw from; the environment's training tasks if None.
            controlled: The agents who are stepped; all of them if None.
            opponent: Answers the calls of all other agents.
            parser: Reads actions that are text; the Hermes format if None.
            context_size: Tokens of context that AgentScope counts on.
            formatter: An AgentScope formatter in place of the one whose prompts extend each other.
            deadline_s: Seconds after which a step that does not come to rest is an error.
        """
        self.environment = environment
        self.tasks = environment.train_tasks if tasks is None else tasks
        self._settings = EpisodeSettings(
            environment=environment,
            controlled=controlled,
            opponent=opponent,
            parser=parser or HermesParser(),
            context_size=context_size,
            formatter=formatter,
        )
        self._draws = TaskDraws(self.tasks)
        self._thread = EpisodeThread(f"episodes of {environment.name}", deadline_s=deadline_s)
        self._episode: SteppedEpisode | None = None
        self._observations = Messages(UnicodeText(MAX_TEXT))
        self._actions = UnicodeText(MAX_TEXT)

    @property
    def agents(self) -> list[str]:
        """The agents who must act now, sorted."""
        return [] if self._episode is None else list(self._episode.due())

    def observation_space(self, agent: str) -> Messages:
        """Return the space of an agent's observations: the same object for each agent and call."""
        return self._observations

    def action_space(self, agent: str) -> UnicodeText:
        """Return the space of an agent's text actions: the same object for each agent and call."""
        return self._actions

    def reset(self, *, seed: int | None = None, options: Mapping[str, int] | None = None) -> Start:
        """Start an episode, abandoning the present one.

        Args:
            seed: From which this episode's task and those of later resets are drawn; the draws
                go on if None.
            options: ``{"task": i}`` chooses the task at that index.

        Raises:
            SettingError: An option is unknown or out of range.
            WorkflowError: The workflow failed before its first call, or never came to rest.
        """
        return self._run(self._reset_job(seed, options)).start()

    async def areset(
        self, *, seed: int | None = None, options: Mapping[str, int] | None = None
    ) -> Start:
        """Do as :meth:`reset` without blocking the caller's event loop."""
        return (await self._arun(self._reset_job(seed, options))).start()

    def step(self, actions: Mapping[str, Action]) -> Step:
        """Answer the open calls and run until there are others, or the episode's end.

        Args:
            actions: For each agent who must act, the reply: text, which the parser reads, or a
                reply already read.

        Returns:
            Observations, rewards, terminations, truncations and infos. A reward that the workflow
            gives comes in the step in which it falls, the judge's at the end; all that an agent
            gets adds up to its reward in the score. An episode that a limit cut short is
            truncated, not terminated.

        Raises:
            InvalidAction: An agent that must act is missing, another one acts, or an action is
                neither a reply nor text of the action space. Nothing has changed: step again.
            ResetNeeded: No episode is under way.
            WorkflowError: The workflow failed, blocked its loop or never came to rest.
            JudgeError: The judge failed.
        """
        return self._run(self._step_job(actions)).step()

    async def astep(self, actions: Mapping[str, Action]) -> Step:
        """Do as :meth:`step` without blocking the caller's event loop."""
        return (await self._arun(self._step_job(actions))).step()

    def responder(self, turns: Responder) -> Responder:
        """Return what answers an episode's calls; a subclass may delay or record them."""
        return turns

    def abandon(self) -> None:
        """Leave the episode, which takes no action any more; its tasks end with the next reset."""
        self._episode = None

    def close(self) -> None:
        """End the episode, its tasks and the threads; a later reset starts anew.

        Raises:
            WorkflowError: A task or thread of the workflow did not end when told to.
        """
        self._episode = None
        self._thread.close()

    def __enter__(self) -> Self:
        """Return the environment, to be closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the environment."""
        self.close()

    def _reset_job(
        self, seed: int | None, options: Mapping[str, int] | None
    ) -> Callable[[QuiescentLoop], SteppedEpisode]:
        task = self._draws.next_task(seed=seed, options=options)
        self._episode = None

        def begin(loop: QuiescentLoop) -> SteppedEpisode:
            cancel_all(loop)
            episode = SteppedEpisode(loop, task, self._settings, responder=self.responder)
            return _advanced(loop, episode)

        return begin

    def _step_job(self, actions: Mapping[str, Action]) -> Callable[[QuiescentLoop], SteppedEpisode]:
        episode = self._episode
        if episode is None:
            raise ResetNeeded("step needs an episode under way, and there is none; call reset")
        replies = episode.check(actions)

        def go_on(loop: QuiescentLoop) -> SteppedEpisode:
            episode.answer(replies)
            return _advanced(loop, episode)

        return go_on

    # Failed or cancelled, an episode cannot be stepped any further: so it is dropped meanwhile.

    def _run(self, job: Callable[[QuiescentLoop], SteppedEpisode]) -> SteppedEpisode:
        self._episode = None
        self._episode = self._thread.run(job)
        return self._episode

    async def _arun(self, job: Callable[[QuiescentLoop], SteppedEpisode]) -> SteppedEpisode:
        self._episode = None
        self._episode = await self._thread.arun(job)
        return self._episode


def _advanced(loop: QuiescentLoop, episode: SteppedEpisode) -> SteppedEpisode:
    advance(loop, [episode])
    if episode.failure is not None:
        raise episode.failure
    return episode

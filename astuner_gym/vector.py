"""Many episodes of one environment on one event loop, stepped together.

Each episode has an index. ``reset`` and ``step`` take and return a list with an entry for each of
them, and come back when all are at rest, so that an episode's tools run while others' do::

    with VectorWorkflowEnv(environment, 256) as env:
        starts = env.reset(seed=0)
        seen = [observations for observations, _ in starts]
        while any(seen):
            actions = [{agent: policy(prompt) for agent, prompt in one.items()} for one in seen]
            seen = [step[0] for step in env.step(actions)]

Episode ``i`` is the one that ``WorkflowEnv.reset(seed=seed + i)`` gives.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Self, SupportsIndex, TypeAlias

from agentscope.formatter import FormatterBase
from gymnasium.error import InvalidAction, ResetNeeded

from astuner_gym.chat.messages import ChatReply, Responder
from astuner_gym.chat.model import DEFAULT_CONTEXT_SIZE
from astuner_gym.chat.parsers import HermesParser, ReplyParser
from astuner_gym.environment import Environment
from astuner_gym.episode_thread import EpisodeThread
from astuner_gym.errors import SettingError
from astuner_gym.quiescence import QuiescentLoop
from astuner_gym.spaces import Messages, UnicodeText
from astuner_gym.stepped_episode import (
    MAX_TEXT,
    Action,
    EpisodeSettings,
    Start,
    Step,
    SteppedEpisode,
    advance,
    cancel,
    cancel_all,
)
from astuner_gym.task import TaskSource
from astuner_gym.task_draws import TaskDraws

Seeds: TypeAlias = int | Sequence[int | None] | None
_Job: TypeAlias = Callable[[QuiescentLoop], list[SteppedEpisode | None]]


class VectorWorkflowEnv:
    """Steps many episodes of an environment's workflow in one thread.

    What goes wrong in one episode ends that one alone: a workflow that raises, waits for ever or
    returns no result, or a judge that gives no score. Its agents who have not left are then
    truncated with reward 0.0, their infos hold ``error``, and :attr:`errors` has the exception.
    Such an episode says nothing about how its agents played: leave it out of training and of
    averages. What blocks the loop itself takes all episodes with it, and the step raises.

    An ended episode takes no action (``{}``) and gives empty dicts until it is reset. For the dicts
    of a step see :class:`WorkflowEnv`.
    """

    def __init__(
        self,
        environment: Environment,
        count: int,
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
            count: How many episodes there are at once.
            tasks: Tasks to draw from; the environment's training tasks if None.
            controlled: The agents who are stepped; all of them if None.
            opponent: Answers the calls of all other agents.
            parser: Reads actions that are text; the Hermes format if None.
            context_size: Tokens of context that AgentScope counts on.
            formatter: An AgentScope formatter in place of the one whose prompts extend each other.
            deadline_s: Seconds after which episodes that have not come to rest fail.

        Raises:
            SettingError: A setting breaks a rule.
        """
        if count < 1:
            raise SettingError(f"count must be >= 1 for an episode to be stepped, got {count}")
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
        self._draws = [TaskDraws(self.tasks) for _ in range(count)]
        self._thread = EpisodeThread(f"episodes of {environment.name}", deadline_s=deadline_s)
        self._episodes: list[SteppedEpisode | None] = [None] * count
        self._errors: list[Exception | None] = [None] * count
        self._lost = True
        self._observations = Messages(UnicodeText(MAX_TEXT))
        self._actions = UnicodeText(MAX_TEXT)

    def __len__(self) -> int:
        """Return how many episodes there are at once."""
        return len(self._episodes)

    @property
    def agents(self) -> list[list[str]]:
        """For each episode the agents who must act now, sorted."""
        return [[] if episode is None else list(episode.due()) for episode in self._episodes]

    @property
    def errors(self) -> list[Exception | None]:
        """For each episode what it failed with, or None."""
        return [
            error if episode is None else episode.failure
            for episode, error in zip(self._episodes, self._errors, strict=True)
        ]

    @property
    def over(self) -> list[bool]:
        """For each episode whether it must be reset before it takes actions again."""
        return [episode is None for episode in self._episodes]

    def observation_space(self, agent: str) -> Messages:
        """Return the space of an agent's observations: the same object for each agent and call."""
        return self._observations

    def action_space(self, agent: str) -> UnicodeText:
        """Return the space of an agent's text actions: the same object for each agent and call."""
        return self._actions

    def reset(
        self,
        *,
        seed: Seeds = None,
        options: Mapping[str, int] | None = None,
        only: Collection[int] | None = None,
    ) -> list[Start]:
        """Start episodes anew, abandoning the present ones.

        Args:
            seed: ``seed + i`` or the i-th seed is that from which the tasks of episode i are
                drawn; its draws go on where it is None.
            options: ``{"task": i}`` chooses the task at that index, for each episode alike.
            only: Indices of the episodes to start; the others stay as they are. All if None.

        Returns:
            Observations and infos of every episode, those that were not started included. An
            episode that failed before its first call has none, nor has its first step; ``errors``
            tells.

        Raises:
            SettingError: An option, a seed or an index is out of range.
            WorkflowError: A workflow blocks the event loop, and all episodes are lost.
        """
        self._run(self._reset_job(seed, options, only))
        return self._starts()

    async def areset(
        self,
        *,
        seed: Seeds = None,
        options: Mapping[str, int] | None = None,
        only: Collection[int] | None = None,
    ) -> list[Start]:
        """Do as :meth:`reset` without blocking the caller's event loop."""
        await self._arun(self._reset_job(seed, options, only))
        return self._starts()

    def step(self, actions: Sequence[Mapping[str, Action]]) -> list[Step]:
        """Answer the open calls of all episodes and run until there are others, or their ends.

        Args:
            actions: For each episode and each agent who must act in it, the reply.

        Returns:
            What :meth:`WorkflowEnv.step` returns, for each episode.

        Raises:
            InvalidAction: There is not one mapping an episode, or one of them is not what its
                episode asks for; the message names its index. No episode has changed: step again.
            ResetNeeded: No episode was ever started, all were lost, or an ended one is given
                actions.
            WorkflowError: A workflow blocks the event loop, and all episodes are lost.
        """
        self._run(self._step_job(actions))
        return self._steps()

    async def astep(self, actions: Sequence[Mapping[str, Action]]) -> list[Step]:
        """Do as :meth:`step` without blocking the caller's event loop."""
        await self._arun(self._step_job(actions))
        return self._steps()

    def responder(self, turns: Responder) -> Responder:
        """Return what answers an episode's calls; a subclass may delay or record them."""
        return turns

    def fail(self, index: int, error: Exception) -> None:
        """End an episode by an error that the caller found in it; its next step tells."""
        episode = self._episodes[index]
        if episode is not None and episode.failure is None:
            episode.failure = error

    def close(self) -> None:
        """End the episodes, their tasks and the thread; a later reset starts anew.

        Raises:
            WorkflowError: A task or thread of a workflow did not end when told to.
        """
        self._lose()
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
        self, seed: Seeds, options: Mapping[str, int] | None, only: Collection[int] | None
    ) -> _Job:
        indices = self._indices(only)
        seeds = self._seeds(seed)
        tasks = {
            index: self._draws[index].next_task(seed=seeds[index], options=options)
            for index in indices
        }

        before = self._episodes

        def begin(loop: QuiescentLoop) -> list[SteppedEpisode | None]:
            episodes = list(before)
            if len(indices) == len(episodes) or not any(episodes):
                cancel_all(loop)  # Also ends what an interrupted step has left.
            else:
                cancel(loop, filter(None, (episodes[index] for index in indices)))
            for index, task in tasks.items():
                episodes[index] = SteppedEpisode(
                    loop, task, self._settings, responder=self.responder
                )
            advance(loop, [*filter(None, episodes)])
            return episodes

        return begin

    def _step_job(self, actions: Sequence[Mapping[str, Action]]) -> _Job:
        if self._lost:
            raise ResetNeeded("step needs an episode under way, and there is none; call reset")
        if len(actions) != len(self):
            raise InvalidAction(
                f"each of the {len(self)} episodes needs a mapping of actions, got {len(actions)}; "
                "give {} where no agent must act"
            )
        replies = [self._checked(index, of_one) for index, of_one in enumerate(actions)]

        episodes = self._episodes

        def go_on(loop: QuiescentLoop) -> list[SteppedEpisode | None]:
            living = [*filter(None, episodes)]
            cancel(loop, [episode for episode in living if episode.failure is not None])
            for episode, of_one in zip(episodes, replies, strict=True):
                if episode is not None:
                    episode.answer(of_one)
            advance(loop, living)
            return episodes

        return go_on

    def _checked(self, index: int, actions: Mapping[str, Action]) -> dict[str, ChatReply]:
        episode = self._episodes[index]
        try:
            if episode is not None:
                return episode.check(actions)
            if actions:
                raise ResetNeeded(f"it is not under way, got actions {actions!r}; reset it")
        except (InvalidAction, ResetNeeded) as error:
            raise type(error)(f"episode {index}: {error}") from error
        return {}

    def _indices(self, only: Collection[int] | None) -> list[int]:
        if only is None:
            return list(range(len(self)))
        unknown = [index for index in only if not 0 <= index < len(self)]
        if unknown:
            raise SettingError(f"only must hold indices in 0 … {len(self) - 1}, got {unknown}")
        return sorted(set(only))

    def _seeds(self, seed: Seeds) -> Sequence[int | None]:
        if seed is None:
            return [None] * len(self)
        if isinstance(seed, SupportsIndex):
            first = operator.index(seed)
            return range(first, first + len(self))
        if len(seed) != len(self):
            raise SettingError(
                f"seeds must be one for each of {len(self)} episodes, got {len(seed)}; give one "
                "number to have them counted up from it"
            )
        return seed

    def _starts(self) -> list[Start]:
        return [({}, {}) if episode is None else episode.start() for episode in self._episodes]

    def _steps(self) -> list[Step]:
        return [
            ({}, {}, {}, {}, {}) if episode is None else self._step(index, episode)
            for index, episode in enumerate(self._episodes)
        ]

    def _step(self, index: int, episode: SteppedEpisode) -> Step:
        step = episode.step()
        if episode.over:
            # Kept, it would hold all that its agents remember.
            self._episodes[index], self._errors[index] = None, episode.failure
        return step

    # Broken or cancelled, no episode can be stepped any further: so they are dropped meanwhile.

    def _run(self, job: _Job) -> None:
        self._lose()
        self._keep(self._thread.run(job))

    async def _arun(self, job: _Job) -> None:
        self._lose()
        self._keep(await self._thread.arun(job))

    def _lose(self) -> None:
        self._episodes = [None] * len(self)
        self._lost = True

    def _keep(self, episodes: list[SteppedEpisode | None]) -> None:
        self._episodes = episodes
        self._lost = False

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

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Self, TypeAlias, TypedDict

from agentscope.formatter import FormatterBase
from gymnasium.error import InvalidAction, ResetNeeded

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, Responder
from astuner_gym.chat.model import DEFAULT_CONTEXT_SIZE
from astuner_gym.chat.parsers import HermesParser, ReplyParser
from astuner_gym.environment import Environment
from astuner_gym.episode import EpisodeOutcome, run_episode
from astuner_gym.errors import SettingError, WorkflowError
from astuner_gym.loop_thread import LoopThread
from astuner_gym.quiescence import QuiescentLoop
from astuner_gym.spaces import Messages, UnicodeText
from astuner_gym.task import Task, TaskSource

Observation: TypeAlias = tuple[ChatMessage, ...]
Action: TypeAlias = str | ChatReply


class Info(TypedDict, total=False):
    """What is known of an agent beside its observation."""

    task: str
    """Id of the episode's task."""
    call: ChatCall
    """The call that the agent's next action answers; absent at the end."""
    success: bool
    """Whether the episode counts as solved; only at the end."""
    metrics: dict[str, float]
    """Figures of workflow and judge, as ``workflow/<name>`` and ``judge/<name>``; at the end."""


Start: TypeAlias = tuple[dict[str, Observation], dict[str, Info]]
Step: TypeAlias = tuple[
    dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]
]

_MAX_TEXT = 1_000_000
_CANCEL_ROUNDS = 10
_CANCEL_AGAIN_S = 1.0


class WorkflowEnv:
    """Steps an environment's workflow; one episode at a time, in a thread of its own.

    Dicts of a step hold the agents who must act now. At the end of the episode there are no
    observations, and the other dicts hold every stepped agent that acted in it. One agent's
    concurrent calls are put to it one after the other.

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
        if deadline_s <= 0:
            raise SettingError(f"deadline_s must be > 0 for a step to end, got {deadline_s}")
        if (controlled is None) != (opponent is None):
            raise SettingError(
                "controlled and opponent go together, one names the agents that are stepped and "
                f"the other answers for the rest; got {controlled=}, {opponent=}"
            )
        self.environment = environment
        self._controlled = controlled
        self._opponent = opponent
        self.tasks = environment.train_tasks if tasks is None else tasks
        self._parser = parser or HermesParser()
        self._context_size = context_size
        self._formatter = formatter
        self._deadline_s = deadline_s
        self._random = Random()
        self._thread: LoopThread | None = None
        self._episode: _Episode | None = None
        self._observations = Messages(UnicodeText(_MAX_TEXT))
        self._actions = UnicodeText(_MAX_TEXT)

    @property
    def agents(self) -> list[str]:
        """The agents who must act now, sorted."""
        return [] if self._episode is None else list(self._episode.turns.due())

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
        self._episode = self._run(self._reset_job(seed, options))
        return self._start(self._episode)

    async def areset(
        self, *, seed: int | None = None, options: Mapping[str, int] | None = None
    ) -> Start:
        """Do as :meth:`reset` without blocking the caller's event loop."""
        self._episode = await self._arun(self._reset_job(seed, options))
        return self._start(self._episode)

    def step(self, actions: Mapping[str, Action]) -> Step:
        """Answer the open calls and run until there are others, or the episode's end.

        Args:
            actions: For each agent who must act, the reply: text, which the parser reads, or a
                reply already read.

        Returns:
            Observations, rewards, terminations, truncations and infos. Rewards come from the judge
            at the end and are 0 before. An episode that a limit cut short is truncated, not
            terminated.

        Raises:
            InvalidAction: An agent that must act is missing, or another one acts.
            ResetNeeded: No episode is under way.
            WorkflowError: The workflow failed, blocked its loop or never came to rest.
            JudgeError: The judge failed.
        """
        return self._outcome(self._run(self._step_job(actions)))

    async def astep(self, actions: Mapping[str, Action]) -> Step:
        """Do as :meth:`step` without blocking the caller's event loop."""
        return self._outcome(await self._arun(self._step_job(actions)))

    def responder(self, turns: Responder) -> Responder:
        """Return what answers an episode's calls; a subclass may delay or record them."""
        return turns

    def close(self) -> None:
        """End the episode, its tasks and the threads; a later reset starts anew.

        Raises:
            WorkflowError: A task or thread of the workflow did not end when told to.
        """
        self._episode = None
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            thread.run(lambda: _shut_down(thread.loop), deadline_s=self._deadline_s)
        except BaseException:
            # What would not end in time may never end: waiting for it could be for ever.
            thread.abandon()
            raise
        thread.stop()

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
    ) -> Callable[[QuiescentLoop], _Episode]:
        if seed is not None:
            self._random = Random(seed)
        task = self._choose_task(options or {})
        self._episode = None

        def begin(loop: QuiescentLoop) -> _Episode:
            loop.run_until_complete(_cancel_all(loop))
            turns = _Turns(loop, controlled=self._controlled, opponent=self._opponent)
            root = loop.create_task(
                run_episode(
                    self.environment.workflow,
                    self.environment.judge,
                    task,
                    self.responder(turns),
                    context_size=self._context_size,
                    formatter=self._formatter,
                ),
                name=f"episode of task {task.id}",
            )
            episode = _Episode(task=task, turns=turns, root=root)
            _advance(loop, episode)
            return episode

        return begin

    def _choose_task(self, options: Mapping[str, int]) -> Task:
        unknown = options.keys() - {"task"}
        if unknown:
            raise SettingError(
                f"options of reset may hold 'task' alone, got {sorted(unknown)}; leave them out"
            )
        count = len(self.tasks)
        index = options.get("task")
        if index is None:
            index = self._random.randrange(count)
        if not 0 <= index < count:
            raise SettingError(
                f"options['task'] must be in 0 … {count - 1}, the number of tasks less one, "
                f"got {index}"
            )
        return self.tasks[index]

    def _step_job(self, actions: Mapping[str, Action]) -> Callable[[QuiescentLoop], _Episode]:
        episode = self._episode
        if episode is None or episode.over:
            raise ResetNeeded(
                "step needs an episode under way, and there is none or it has ended; call reset"
            )
        due = episode.turns.due()
        if actions.keys() != due.keys():
            raise InvalidAction(
                f"each agent who must act needs one action and no other may act: the agents are "
                f"{list(due)}, got actions of {sorted(actions)}"
            )
        replies = {
            agent: self._parser.parse(action) if isinstance(action, str) else action
            for agent, action in actions.items()
        }

        def advance(loop: QuiescentLoop) -> _Episode:
            for agent, call in due.items():
                call.answer.set_result(replies[agent])
            _advance(loop, episode)
            return episode

        return advance

    def _run(self, job: Callable[[QuiescentLoop], _Episode]) -> _Episode:
        thread = self._loop_thread()
        try:
            return thread.run(lambda: job(thread.loop), deadline_s=self._deadline_s)
        except BaseException:  # cancelled or broken, the episode cannot be stepped any further
            self._fail(thread)
            raise

    async def _arun(self, job: Callable[[QuiescentLoop], _Episode]) -> _Episode:
        thread = self._loop_thread()
        try:
            return await thread.arun(lambda: job(thread.loop), deadline_s=self._deadline_s)
        except BaseException:  # cancelled or broken, the episode cannot be stepped any further
            self._fail(thread)
            raise

    def _loop_thread(self) -> LoopThread:
        if self._thread is None:
            self._thread = LoopThread(f"episodes of {self.environment.name}")
        return self._thread

    def _fail(self, thread: LoopThread) -> None:
        self._episode = None
        if thread.blocked:
            thread.abandon()
            self._thread = None

    @staticmethod
    def _start(episode: _Episode) -> Start:
        due = episode.turns.due()
        return _observations(due), _infos(due, episode.task)

    @staticmethod
    def _outcome(episode: _Episode) -> Step:
        due = episode.turns.due()
        if not episode.root.done():
            running = dict.fromkeys(due, False)
            return (
                _observations(due),
                dict.fromkeys(due, 0.0),
                running,
                dict(running),
                _infos(due, episode.task),
            )
        episode.over = True
        agents = sorted(episode.turns.agents)
        outcome = episode.root.result()
        score, truncated = outcome.score, outcome.result.truncated
        metrics = {f"workflow/{name}": value for name, value in outcome.result.metrics.items()}
        metrics |= {f"judge/{name}": value for name, value in score.metrics.items()}
        return (
            {},
            {agent: score.reward(agent) for agent in agents},
            dict.fromkeys(agents, not truncated),
            dict.fromkeys(agents, truncated),
            {
                agent: Info(task=episode.task.id, success=score.success, metrics=dict(metrics))
                for agent in agents
            },
        )


@dataclass(slots=True)
class _Episode:
    """The episode under way."""

    task: Task
    turns: _Turns
    root: asyncio.Task[EpisodeOutcome]
    over: bool = False
    """True once its end was returned from a step."""


@dataclass(frozen=True, slots=True)
class _OpenCall:
    """A call that waits for its reply."""

    call: ChatCall
    answer: asyncio.Future[ChatReply]


class _Turns:
    """The responder of a stepped episode: holds calls until their replies are set."""

    def __init__(
        self,
        loop: QuiescentLoop,
        *,
        controlled: Collection[str] | None,
        opponent: Responder | None,
    ) -> None:
        self._loop = loop
        self._controlled = controlled
        self._opponent = opponent
        self._open: dict[tuple[str, int], _OpenCall] = {}
        self.agents: set[str] = set()

    async def respond(self, call: ChatCall) -> ChatReply:
        if (
            self._opponent is not None
            and self._controlled is not None
            and call.agent not in self._controlled
        ):
            return await self._opponent.respond(call)
        key = (call.agent, call.index)
        self.agents.add(call.agent)
        self._open[key] = _OpenCall(call, self._loop.open_call())
        try:
            return await self._open[key].answer
        finally:
            del self._open[key]

    def due(self) -> dict[str, _OpenCall]:
        """Return the first open call of each agent, sorted by agent."""
        first: dict[str, _OpenCall] = {}
        for (agent, _), call in sorted(self._open.items(), key=lambda item: item[0]):
            first.setdefault(agent, call)
        return first


def _observations(due: Mapping[str, _OpenCall]) -> dict[str, Observation]:
    return {agent: open_call.call.messages for agent, open_call in due.items()}


def _infos(due: Mapping[str, _OpenCall], task: Task) -> dict[str, Info]:
    return {agent: Info(task=task.id, call=open_call.call) for agent, open_call in due.items()}


def _advance(loop: QuiescentLoop, episode: _Episode) -> None:
    """Run the episode to its next calls or its end; runs in the loop's thread."""
    if not loop.run_to_rest(episode.root):
        waits = "\n".join(loop.under_way())
        raise WorkflowError(
            f"a workflow must come to rest at its models' calls or end, and task {episode.task.id} "
            f"did neither within deadline_s; raise it, or mend what its tasks wait on:\n{waits}"
        )
    if episode.root.done():
        loop.run_until_complete(_cancel_all(loop))
        episode.root.result()  # Raises here what the episode raised.


async def _cancel_all(loop: QuiescentLoop) -> None:
    """Cancel what an episode left behind; more than once, since AgentScope swallows the first."""
    for _ in range(_CANCEL_ROUNDS):
        tasks = [task for task in loop.unfinished_tasks() if task is not asyncio.current_task()]
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        done, _pending = await asyncio.wait(tasks, timeout=_CANCEL_AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # Asked for, so that asyncio does not log it: nobody wants it.
    raise WorkflowError(
        f"a workflow's tasks must end when they are cancelled {_CANCEL_ROUNDS} times, these live "
        "on; let CancelledError and EpisodeClosedError pass:\n" + "\n".join(loop.under_way())
    )


def _shut_down(loop: QuiescentLoop) -> None:
    async def wind_up() -> None:
        await _cancel_all(loop)
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()

    loop.run_until_complete(wind_up())

"""An episode whose calls are answered from outside: what one environment and many have in common.

The episode runs on a :class:`QuiescentLoop` until it rests at open calls or ends. Whoever steps it
reads from it which agents must act, checks and sets their replies, and reads what the step came to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

from agentscope.formatter import FormatterBase
from gymnasium.error import InvalidAction, ResetNeeded

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, Responder, ToolCall
from astuner_gym.chat.model import EpisodeModels
from astuner_gym.chat.parsers import ReplyParser
from astuner_gym.environment import Environment
from astuner_gym.episode import EpisodeOutcome, run_episode_with
from astuner_gym.errors import JudgeError, SettingError, WorkflowError
from astuner_gym.quiescence import QuiescentLoop
from astuner_gym.spaces import UnicodeText
from astuner_gym.task import Task

Observation: TypeAlias = tuple[ChatMessage, ...]
Action: TypeAlias = str | ChatReply


class Info(TypedDict, total=False):
    """What is known of an agent beside its observation."""

    task: str
    """Id of the episode's task."""
    call: ChatCall
    """The call that the agent's next action answers; absent if it need not act."""
    success: bool
    """Whether the episode counts as solved; only at the end."""
    metrics: dict[str, float]
    """Figures of workflow and judge, as ``workflow/<name>`` and ``judge/<name>``; at the end."""
    error: str
    """Why the episode failed; only at the end of one among many that did."""


Start: TypeAlias = tuple[dict[str, Observation], dict[str, Info]]
Step: TypeAlias = tuple[
    dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]
]

MAX_TEXT = 1_000_000
"""Characters of a text in an action or an observation."""

_TEXT = UnicodeText(MAX_TEXT)
_CANCEL_ROUNDS = 10
_CANCEL_AGAIN_S = 1.0
"""How long a cancelled task may tidy up before it is cancelled once more."""
_CANCEL_HUNG_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSettings:
    """How the episodes of an environment are run and who answers for whom.

    Raises:
        SettingError: One of ``controlled`` and ``opponent`` is given without the other, or
            ``controlled`` is a text.
    """

    environment: Environment
    controlled: Collection[str] | None
    """The agents who are stepped; all of them if None."""
    opponent: Responder | None
    """Answers the calls of all other agents."""
    parser: ReplyParser
    """Reads actions that are text."""
    context_size: int
    """Tokens of context that AgentScope counts on."""
    formatter: FormatterBase | None
    """An AgentScope formatter in place of the one whose prompts extend each other."""

    def __post_init__(self) -> None:
        """Refuse half a pair."""
        if (self.controlled is None) != (self.opponent is None):
            raise SettingError(
                "controlled and opponent go together, one names the agents that are stepped and "
                f"the other answers for the rest; got controlled={self.controlled!r}, "
                f"opponent={self.opponent!r}"
            )
        if isinstance(self.controlled, str):
            raise SettingError(
                "controlled must be a collection of agents' names, got the text "
                f"{self.controlled!r}; write [{self.controlled!r}]"
            )

    def steps(self, agent: str) -> bool:
        """Return whether the agent's replies come from outside."""
        return self.controlled is None or agent in self.controlled


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that waits for its reply."""

    call: ChatCall
    answer: asyncio.Future[ChatReply]


class SteppedEpisode:
    """One episode on a loop; make it and :meth:`answer` it in the loop's thread.

    Nothing of it runs before :func:`advance`.
    """

    def __init__(
        self,
        loop: QuiescentLoop,
        task: Task,
        settings: EpisodeSettings,
        *,
        responder: Callable[[Responder], Responder] = lambda turns: turns,
    ) -> None:
        """Make the episode; ``responder`` may wrap what answers its calls."""
        environment = settings.environment
        self.task = task
        self.failure: Exception | None = None
        """What ended the episode before it could be scored."""
        self.over = False
        """True once its end was returned from :meth:`step`."""
        self._settings = settings
        self._turns = _Turns(loop, settings)
        self._models = EpisodeModels(
            responder(self._turns),
            context_size=settings.context_size,
            formatter=settings.formatter,
        )
        self.root: asyncio.Task[EpisodeOutcome] = loop.create_root(
            run_episode_with(self._models, environment.workflow, environment.judge, task),
            name=f"episode of task {task.id}",
        )
        self._given_seen = 0
        self._left_seen = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will be asked; its last step may not have been taken yet."""
        return self.failure is not None or self.root.done()

    def due(self) -> dict[str, OpenCall]:
        """Return the first open call of each agent who must act, sorted by agent."""
        return {} if self.ended else self._turns.due()

    def start(self) -> Start:
        """Return what a reset returns."""
        due = self.due()
        return _observations(due), {agent: self._info(due, agent) for agent in due}

    def check(self, actions: Mapping[str, Action]) -> dict[str, ChatReply]:
        """Return the replies that the actions are; changes nothing, so they may be corrected.

        Raises:
            ResetNeeded: The episode has ended.
            InvalidAction: An agent that must act is missing, another one acts, or an action is
                no text of the action space and no reply made of such texts.
        """
        if self.over:
            raise ResetNeeded(
                "step needs an episode under way, and there is none or it has ended; call reset"
            )
        due = self.due()
        if not isinstance(actions, Mapping):
            raise InvalidAction(
                f"actions must be a mapping from agent to action, got {type(actions).__name__}; "
                f"the agents are {list(due)}"
            )
        if actions.keys() != due.keys():
            raise InvalidAction(
                f"each agent who must act needs one action and no other may act: the agents are "
                f"{list(due)}, got actions of {sorted(actions, key=repr)}"
            )
        return {agent: self._reply(agent, action) for agent, action in actions.items()}

    def answer(self, replies: Mapping[str, ChatReply]) -> None:
        """Answer the open calls by the checked replies, in the order of the agents' names."""
        for agent, open_call in self.due().items():
            open_call.answer.set_result(replies[agent])

    def step(self) -> Step:
        """Return what a step returns: what came since the last one."""
        if self.failure is not None:
            return self._failed(self.failure)
        if self.root.done():
            return self._end(self.root.result())
        due = self.due()
        given = self._models.given[self._given_seen :]
        left = self._models.left[self._left_seen :]
        self._given_seen += len(given)
        self._left_seen += len(left)
        rewards: dict[str, float] = {}
        for gift in given:
            if self._settings.steps(gift.agent):
                rewards[gift.agent] = rewards.get(gift.agent, 0.0) + gift.amount
        gone = {*self._models.left}
        agents = sorted(due.keys() | rewards.keys() | set(filter(self._settings.steps, left)))
        return (
            _observations(due),
            {agent: rewards.get(agent, 0.0) for agent in agents},
            {agent: agent in gone for agent in agents},
            dict.fromkeys(agents, False),
            {agent: self._info(due, agent) for agent in agents},
        )

    def settle(self) -> None:
        """Note as the failure what a finished episode raised, or lacks to be scored."""
        if self.failure is None and self.root.done():
            self.failure = _failure(self.root) or self._score_failure(self.root.result())

    def _score_failure(self, outcome: EpisodeOutcome) -> JudgeError | None:
        try:
            for agent in self._agents():
                outcome.score.reward(agent)
        except JudgeError as error:
            return error
        return None

    def _agents(self) -> list[str]:
        """Return the stepped agents that acted, were given a reward or left, sorted."""
        given = {gift.agent for gift in self._models.given}
        others = filter(self._settings.steps, given | {*self._models.left})
        return sorted({*self._turns.agents, *others})

    def _end(self, outcome: EpisodeOutcome) -> Step:
        self.over = True
        agents, left = self._agents(), {*self._models.left}
        score, truncated = outcome.score, outcome.result.truncated
        rewards = {agent: score.reward(agent) for agent in agents}
        for gift in self._models.given[: self._given_seen]:
            if gift.agent in rewards:
                rewards[gift.agent] -= gift.amount
        metrics = {f"workflow/{name}": value for name, value in outcome.result.metrics.items()}
        metrics |= {f"judge/{name}": value for name, value in score.metrics.items()}
        return (
            {},
            rewards,
            {agent: agent in left or not truncated for agent in agents},
            {agent: truncated and agent not in left for agent in agents},
            {
                agent: Info(task=self.task.id, success=score.success, metrics=dict(metrics))
                for agent in agents
            },
        )

    def _failed(self, failure: Exception) -> Step:
        self.over = True
        agents, left = self._agents(), {*self._models.left}
        error = f"{type(failure).__name__}: {failure}"
        return (
            {},
            dict.fromkeys(agents, 0.0),
            {agent: agent in left for agent in agents},
            {agent: agent not in left for agent in agents},
            {agent: Info(task=self.task.id, error=error) for agent in agents},
        )

    def _info(self, due: Mapping[str, OpenCall], agent: str) -> Info:
        info = Info(task=self.task.id)
        if agent in due:
            info["call"] = due[agent].call
        return info

    def _reply(self, agent: str, action: Action) -> ChatReply:
        check_action(agent, action)
        return self._settings.parser.parse(action) if isinstance(action, str) else action


class _Turns:
    """The responder of a stepped episode: holds calls until their replies are set."""

    def __init__(self, loop: QuiescentLoop, settings: EpisodeSettings) -> None:
        self._loop = loop
        self._settings = settings
        self._open: dict[tuple[str, int], OpenCall] = {}
        self.agents: set[str] = set()
        """The stepped agents that were asked."""

    async def respond(self, call: ChatCall) -> ChatReply:
        opponent = self._settings.opponent
        if opponent is not None and not self._settings.steps(call.agent):
            return await opponent.respond(call)
        key = (call.agent, call.index)
        self.agents.add(call.agent)
        self._open[key] = OpenCall(call, self._loop.open_call())
        try:
            return await self._open[key].answer
        finally:
            del self._open[key]

    def due(self) -> dict[str, OpenCall]:
        first: dict[str, OpenCall] = {}
        for (agent, _), call in sorted(self._open.items(), key=lambda item: item[0]):
            first.setdefault(agent, call)
        return first


def advance(loop: QuiescentLoop, episodes: Sequence[SteppedEpisode]) -> None:
    """Run the episodes to their next calls or their ends; call it in the loop's thread.

    What goes wrong in one is its ``failure``, and is no matter of the others: an episode that has
    no open call when all are at rest waits for ever and fails, and where the run is interrupted,
    those fail that were not at rest. What an ended episode leaves behind is cancelled.
    """
    running = [episode for episode in episodes if not episode.ended]
    hung: list[SteppedEpisode] = []
    again_s = _CANCEL_AGAIN_S
    if not _run_to_rest(loop, [episode.root for episode in running]):
        # Whoever interrupted the loop counts it as blocked if what follows takes seconds.
        again_s = _CANCEL_HUNG_AGAIN_S
        hung = [episode for episode in running if loop.is_under_way(episode.root)]
        _fail_hung(loop, hung)
        kept = [episode for episode in running if episode.failure is None]
        waiting = [episode for episode in kept if not loop.at_rest(episode.root)]
        _fail_hung(loop, waiting)
        hung += waiting
    for episode in running:
        episode.settle()
        if not episode.ended and not episode.due():
            episode.failure = WorkflowError(
                f"a workflow must come to rest at its models' calls or end, and task "
                f"{episode.task.id} waits for what nothing will bring; mend it:\n"
                + "\n".join(loop.under_way(episode.root))
            )
    ended = [episode for episode in running if episode.ended and episode not in hung]
    cancel(loop, ended, again_s=again_s)


def _run_to_rest(loop: QuiescentLoop, roots: Sequence[asyncio.Task[EpisodeOutcome]]) -> bool:
    while True:
        try:
            return loop.run_to_rest(*roots)
        except SystemExit:
            # asyncio stops the loop for it; but one workflow's exit must not end the others.
            continue


def cancel(
    loop: QuiescentLoop,
    episodes: Iterable[SteppedEpisode],
    *,
    again_s: float = _CANCEL_AGAIN_S,
) -> None:
    """End the tasks of the episodes; one with a task that will not end has that as its failure."""
    ending = {episode.root: episode for episode in episodes}
    if not ending:
        return

    def unfinished() -> list[asyncio.Task[object]]:
        return loop.unfinished_tasks(*ending)

    if not unfinished():
        return

    if not loop.run_until_complete(_cancelled(unfinished, again_s)):
        for episode in ending.values():
            if loop.unfinished_tasks(episode.root):
                episode.failure = _stubborn(loop.under_way(episode.root))


def cancel_all(loop: QuiescentLoop) -> None:
    """End all tasks of the loop; call it in the loop's thread.

    Raises:
        WorkflowError: A task will not end.
    """
    if not loop.unfinished_tasks():
        return
    if not loop.run_until_complete(_cancelled(loop.unfinished_tasks, _CANCEL_AGAIN_S)):
        raise _stubborn(loop.under_way())


async def _cancelled(unfinished: Callable[[], list[asyncio.Task[object]]], again_s: float) -> bool:
    """Cancel tasks until all have ended; more than once, since AgentScope swallows the first."""
    for _ in range(_CANCEL_ROUNDS):
        tasks = [task for task in unfinished() if task is not asyncio.current_task()]
        if not tasks:
            return True
        for task in tasks:
            task.cancel()
        done, _pending = await asyncio.wait(tasks, timeout=again_s)
        for task in done:
            if not task.cancelled():
                task.exception()  # Asked for, so that asyncio does not log it: nobody wants it.
    return False


def _stubborn(tasks: Sequence[str]) -> WorkflowError:
    return WorkflowError(
        f"a workflow's tasks must end when they are cancelled {_CANCEL_ROUNDS} times, these live "
        "on; let CancelledError and EpisodeClosedError pass:\n" + "\n".join(tasks)
    )


def _failure(root: asyncio.Task[EpisodeOutcome]) -> Exception | None:
    """Return what a finished episode raised; what is no Exception is for the caller to get."""
    if root.cancelled():
        return WorkflowError("an episode must not be cancelled from inside; let its tasks run")
    error = root.exception()
    if isinstance(error, SystemExit):
        return WorkflowError(f"a workflow must return a result and not exit, got {error!r}")
    if error is not None and not isinstance(error, Exception):
        raise error
    return error


def _fail_hung(loop: QuiescentLoop, episodes: Sequence[SteppedEpisode]) -> None:
    for episode in episodes:
        episode.failure = WorkflowError(
            f"a workflow must come to rest at its models' calls or end, and task "
            f"{episode.task.id} did neither within deadline_s; raise it, or mend what its tasks "
            "wait on:\n" + "\n".join(loop.under_way(episode.root))
        )
    cancel(loop, episodes, again_s=_CANCEL_HUNG_AGAIN_S)


def _observations(due: Mapping[str, OpenCall]) -> dict[str, Observation]:
    return {agent: open_call.call.messages for agent, open_call in due.items()}


def check_action(agent: str, action: object) -> None:
    """Find out whether an action can be a reply.

    Raises:
        InvalidAction: It is no reply, or its text is too long or not to be encoded.
    """
    if isinstance(action, str):
        _check_text(agent, action)
    elif isinstance(action, ChatReply):
        _check_text(agent, action.text)
        _check_text(agent, action.thinking)
        for call in action.tool_calls:
            if not isinstance(call, ToolCall):
                raise InvalidAction(
                    f"the tool calls of a reply must be ToolCall, got {type(call).__name__} for "
                    f"{agent!r}"
                )
            _check_text(agent, call.name)
            _check_text(agent, call.arguments)
    else:
        raise InvalidAction(
            f"an action must be text or a ChatReply, got {type(action).__name__} for {agent!r}"
        )


def _check_text(agent: str, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidAction(f"a reply's text must be str, got {type(text).__name__} for {agent!r}")
    if len(text) > MAX_TEXT:
        raise InvalidAction(
            f"a reply may have {MAX_TEXT} characters, got {len(text)} for {agent!r}; shorten it"
        )
    if text not in _TEXT:
        raise InvalidAction(
            f"a reply must be Unicode text, and that for {agent!r} holds a lone surrogate, which "
            "no encoding admits; decode bytes with errors='replace'"
        )

"""The AgentScope model that a workflow is given: each call goes to a responder and is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from agentscope.credential import CredentialBase
from agentscope.formatter import FormatterBase
from agentscope.message import Msg, TextBlock, ThinkingBlock, ToolCallBlock
from agentscope.model import ChatModelBase, ChatResponse, ChatUsage
from agentscope.tool import ToolChoice

from astuner_gym.chat.formatter import ExtendingFormatter
from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, Responder
from astuner_gym.chat.openai_format import message_from_openai
from astuner_gym.errors import EpisodeClosedError, EpisodeLimitError, WorkflowError
from astuner_gym.judge import GivenReward, is_finite
from astuner_gym.task import JsonValue

DEFAULT_CONTEXT_SIZE = 32768
"""Tokens; AgentScope compresses an agent's context when its own estimate nears this."""


class AgentChatModel(ChatModelBase):
    """The chat model of one agent in one episode; calls are counted from 0.

    Blocks of the reply to call *k* have the ids ``<agent>-<k>-text``, ``<agent>-<k>-thinking`` and,
    for tool calls, ``<agent>-<k>-<position>``: no run draws them at random, and the formatter
    tells by them where one call's reply ends.

    ``tool_choice`` is not forced on a policy: it may answer a forced tool call in text, and the
    workflow then takes the path that it has for a model which does not obey.
    """

    def __init__(
        self,
        agent: str,
        role: str,
        responder: Responder,
        *,
        context_size: int = DEFAULT_CONTEXT_SIZE,
        formatter: FormatterBase | None = None,
    ) -> None:
        """Make the model.

        Args:
            agent: Unique within the episode.
            role: By which rewards are grouped.
            responder: Answers the calls.
            context_size: Tokens of context that AgentScope counts on.
            formatter: An AgentScope formatter for OpenAI's chat format in place of
                :class:`ExtendingFormatter`; most of those rewrite earlier turns, which costs a
                new timeline a call.
        """
        super().__init__(
            credential=CredentialBase(),
            model=agent,
            parameters=self.Parameters(),
            stream=False,
            max_retries=0,
            context_size=context_size,
        )
        self.agent = agent
        self.role = role
        # Agents read this attribute to learn which media their model takes.
        self.formatter = formatter or ExtendingFormatter(agent=agent)
        self._responder = responder
        self._calls = 0
        self._last: ChatCall | None = None

    async def _call_api(
        self,
        model_name: str,
        messages: list[Msg],
        tools: list[dict[str, Any]] | None = None,
        tool_choice: ToolChoice | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        index = self._calls
        self._calls += 1
        if isinstance(self.formatter, ExtendingFormatter):
            prompt = self.formatter.prompt(messages)
        else:
            formatted = await self.formatter.format(messages)
            prompt = tuple(message_from_openai(message) for message in formatted)
        offered: tuple[Mapping[str, JsonValue], ...] = tuple(tools or ())
        last = self._last
        if last is not None:
            prompt = _with_shared_start(prompt, last.messages)
            offered = last.tools if offered == last.tools else offered
        call = ChatCall(
            agent=self.agent, role=self.role, index=index, messages=prompt, tools=offered
        )
        self._last = call
        return _response(await self._responder.respond(call), prefix=f"{self.agent}-{index}")


def _with_shared_start(
    prompt: tuple[ChatMessage, ...], earlier: tuple[ChatMessage, ...]
) -> tuple[ChatMessage, ...]:
    """Return ``prompt``, holding the messages of ``earlier`` themselves as far as it begins alike.

    A log of n calls then holds O(n) messages instead of O(n²), and comparing two of its prompts
    costs no look into the messages.
    """
    same = 0
    for new, old in zip(prompt, earlier, strict=False):
        if new != old:
            break
        same += 1
    return earlier[:same] + prompt[same:]


def _response(reply: ChatReply, *, prefix: str) -> ChatResponse:
    blocks: list[TextBlock | ThinkingBlock | ToolCallBlock] = []
    if reply.thinking:
        blocks.append(ThinkingBlock(thinking=reply.thinking, id=f"{prefix}-thinking"))
    # An empty reply keeps its block: without it the next prompt would lack the turn.
    if reply.text or not (reply.thinking or reply.tool_calls):
        blocks.append(TextBlock(text=reply.text, id=f"{prefix}-text"))
    for call in reply.with_call_ids(prefix).tool_calls:
        blocks.append(ToolCallBlock(id=call.id, name=call.name, input=call.arguments))
    return ChatResponse(
        content=[*blocks],
        is_last=True,
        id=prefix,
        usage=ChatUsage(
            input_tokens=reply.prompt_tokens, output_tokens=reply.completion_tokens, time=0.0
        ),
    )


class EpisodeModels:
    """The chat models of one episode, made when first asked for.

    AgentScope retries failed calls, turns exceptions inside tools into text, and answers a
    cancelled call with an apology. So the episode itself remembers its first failure, and every
    call after that, or after :meth:`close`, raises :class:`EpisodeClosedError`, as do rewards and
    leaving.
    """

    def __init__(
        self,
        responder: Responder,
        *,
        context_size: int = DEFAULT_CONTEXT_SIZE,
        formatter: FormatterBase | None = None,
    ) -> None:
        """Make the models of an episode; for the settings see :class:`AgentChatModel`."""
        self._responder = responder
        self._context_size = context_size
        self._formatter = formatter
        self._models: dict[str, AgentChatModel] = {}
        self._calling: dict[asyncio.Task[Any], str] = {}
        self._answered: Counter[str] = Counter()
        self._given: list[GivenReward] = []
        self._left: list[str] = []
        self._failure: Exception | None = None
        self._limit_accepted = False
        self._closed = False

    @property
    def failure(self) -> Exception | None:
        """The first error that the responder raised; the workflow may never have seen it.

        None after :meth:`accept_limit`.
        """
        return None if self._limit_accepted else self._failure

    @property
    def calls(self) -> Mapping[str, int]:
        """How many calls of each agent were answered; 0 of those that are not named."""
        return self._answered

    @property
    def given(self) -> Sequence[GivenReward]:
        """The rewards that the workflow has given so far, in their order."""
        return self._given

    @property
    def left(self) -> Sequence[str]:
        """The agents that have left so far, in their order."""
        return self._left

    @property
    def roles(self) -> dict[str, str]:
        """The role of each agent that has a model."""
        return {agent: model.role for agent, model in self._models.items()}

    def __getitem__(self, agent: str, /) -> AgentChatModel:
        """Return the model of ``agent``, whose role is its own name."""
        return self.for_role(agent, role=agent)

    def for_role(self, agent: str, *, role: str) -> AgentChatModel:
        """Return the model of ``agent``, rewarded and trained as one of ``role``.

        Raises:
            WorkflowError: The agent has another role already.
        """
        model = self._models.get(agent)
        if model is None:
            model = AgentChatModel(
                agent, role, self, context_size=self._context_size, formatter=self._formatter
            )
            self._models[agent] = model
        if model.role != role:
            raise WorkflowError(
                f"an agent has one role in an episode, got {role!r} for {agent!r}, which is "
                f"{model.role!r}; use another agent name or the same role"
            )
        return model

    def reward(self, agent: str, amount: float) -> None:
        """Give ``agent`` a reward that falls now; see :meth:`Models.reward`.

        Raises:
            WorkflowError: The amount is no finite number.
            EpisodeClosedError: The episode has ended.
        """
        if not is_finite(amount):
            raise self._broken(
                f"a reward must be a finite number, got {amount!r} for {agent!r}; give none where "
                "there is nothing to give"
            )
        self._refuse_after_end(f"a reward of {agent!r}")
        call = max(0, self._answered[agent] - 1)
        self._given.append(GivenReward(agent, float(amount), call=call))

    def leave(self, agent: str) -> None:
        """Let ``agent`` leave the episode; see :meth:`Models.leave`. To leave twice is no error.

        Raises:
            WorkflowError: A call of the agent is open.
            EpisodeClosedError: The episode has ended.
        """
        if agent in self._calling.values():
            raise self._broken(
                f"an agent must not leave while it is asked, and a call of {agent!r} is open; "
                "await its reply first"
            )
        self._refuse_after_end(f"that {agent!r} leaves")
        if agent not in self._left:
            self._left.append(agent)

    def accept_limit(self) -> None:
        """Take a limit as the episode's end; see :meth:`Models.accept_limit`.

        Raises:
            EpisodeLimitError: The limit, if no call was answered: there is nothing to judge.
            WorkflowError: No limit has refused a call.
        """
        if not isinstance(self._failure, EpisodeLimitError):
            raise self._broken(
                "accept_limit must follow a call that a limit has refused, and there is none; "
                "call it in except EpisodeLimitError"
            )
        if not self._answered:
            raise self._failure
        self._limit_accepted = True

    def close(self) -> None:
        """Cancel the calls that are not answered yet, and refuse every further one."""
        self._closed = True
        for task in self._calling:
            task.cancel()

    async def respond(self, call: ChatCall) -> ChatReply:
        """Pass the call to the episode's responder.

        Raises:
            EpisodeClosedError: The episode was closed, or an earlier call failed.
            WorkflowError: The agent has left.
        """
        if self._closed or self._failure is not None:
            # A workflow that retries for ever must not block the loop: let a cancellation in.
            await asyncio.sleep(0)
            self._refuse_after_end(f"call {call.index} of {call.agent!r}")
        if call.agent in self._left:
            raise self._broken(
                f"an agent that has left makes no further call, got call {call.index} of "
                f"{call.agent!r}; ask it before models.leave, or let it stay"
            )
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._calling[task] = call.agent
        try:
            reply = await self._responder.respond(call)
        except Exception as error:  # whatever a responder raises ends the episode, unchanged
            if self._failure is None:
                self._failure = error
            raise
        finally:
            del self._calling[task]
        self._answered[call.agent] += 1
        return reply

    def _broken(self, rule: str) -> WorkflowError:
        # Kept as the episode's failure, since AgentScope may hide it from the workflow.
        error = WorkflowError(rule)
        if self._failure is None:
            self._failure = error
        return error

    def _refuse_after_end(self, what: str) -> None:
        if self._closed or self._failure is not None:
            raise EpisodeClosedError(
                f"nothing can follow the end of its episode, got {what}; let the error end the "
                "workflow"
            ) from self._failure

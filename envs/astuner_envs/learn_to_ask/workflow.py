"""The agent: a plain AgentScope agent that has heard a dialogue and speaks next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from agentscope.agent import Agent, InjectionConfig, ReActConfig
from agentscope.event import ReplyFinishedReason
from agentscope.message import AssistantMsg, Msg, UserMsg
from agentscope.state import AgentState
from agentscope.tool import Toolkit

from astuner_envs.learn_to_ask.records import Message, Row, Speaker
from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult

AGENT = "clerk"
SYSTEM_PROMPT = (
    "Find out what is needed to help. Ask one question with two or three choices, "
    "or reply <stop /> if nothing is missing."
)


class LearnToAskWorkflow:
    """One reply to one history."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        """Let the agent speak next; the output is what it says."""
        *earlier, last = turns(Row.of(task).history)
        agent = Agent(
            name=AGENT,
            system_prompt=SYSTEM_PROMPT,
            model=models[AGENT],
            toolkit=Toolkit(),
            state=AgentState(context=[_message(turn) for turn in earlier]),
            # The injected state holds the time of day, which no two runs share.
            injection_config=InjectionConfig(inject_runtime_state=False),
            react_config=ReActConfig(max_iters=1),
        )
        reply = await agent.reply(_message(last))
        if reply.finished_reason is ReplyFinishedReason.EXCEED_MAX_ITERS:
            # It called a tool, and there is none. AgentScope has asked once more, for a summary,
            # and may have spoken itself: that is no question of the agent's.
            return WorkflowResult(output="")
        return WorkflowResult(output=reply.get_text_content() or "")


def turns(history: Sequence[Message]) -> list[Message]:
    """Return the history with all that one speaker says in a row as one message, a line each.

    Many chat templates take no two messages of one role in a row.
    """
    return [
        Message(speaker, "\n".join(message.text for message in messages))
        for speaker, messages in groupby(history, key=lambda message: message.speaker)
    ]


def _message(turn: Message) -> Msg:
    if turn.speaker is Speaker.CLERK:
        return AssistantMsg(name=AGENT, content=turn.text)
    return UserMsg(name="user", content=turn.text)

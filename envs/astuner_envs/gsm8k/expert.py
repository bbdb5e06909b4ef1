"""Demonstrations as conversations: what the agent's messages would be if it had written them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from agentscope.tool import FunctionTool

from astuner_envs.gsm8k.demonstrations import Demonstration, demonstrations
from astuner_envs.gsm8k.problems import Problems
from astuner_envs.gsm8k.workflow import AGENT, SYSTEM_PROMPT, calculator
from astuner_gym.chat.messages import ChatMessage, ChatRole, Conversation, ToolCall
from astuner_gym.task import JsonValue


@cache  # to derive it from the function takes longer than all else in a demonstration
def tool_schema() -> dict[str, JsonValue]:
    """Return the calculator's schema, as the agent's toolkit offers it to its model."""
    tool = FunctionTool(calculator)
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.input_schema,
        },
    }


def conversation(demonstration: Demonstration) -> Conversation:
    """Return the messages by which the agent would have solved the problem in that way."""
    messages = [
        ChatMessage(role=ChatRole.SYSTEM, text=SYSTEM_PROMPT),
        ChatMessage(role=ChatRole.USER, text=demonstration.question),
    ]
    for index, turn in enumerate(demonstration.turns):
        call = ToolCall(
            name=calculator.__name__,
            arguments=json.dumps({"expression": turn.expression}),
            id=f"{AGENT}-{index}-0",
        )
        messages += [
            ChatMessage(role=ChatRole.ASSISTANT, tool_calls=(call,)),
            ChatMessage(role=ChatRole.TOOL, text=turn.result, tool_call_id=call.id, name=call.name),
        ]
    messages.append(ChatMessage(role=ChatRole.ASSISTANT, text=demonstration.answer))
    return Conversation(messages=tuple(messages), tools=(tool_schema(),))


@dataclass(frozen=True, slots=True)
class ExpertConversations:
    """Demonstrations for problems, made one by one as they are asked for."""

    problems: Problems
    error_rate: float
    """Share that ends in a wrong answer."""
    seed: int

    def __iter__(self) -> Iterator[Conversation]:
        return map(
            conversation,
            demonstrations(self.problems, error_rate=self.error_rate, seed=self.seed),
        )

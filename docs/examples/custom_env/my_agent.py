"""A shop assistant that looks prices up, and what its answers are worth."""

from __future__ import annotations

import re

from agentscope.agent import Agent, InjectionConfig, ReActConfig
from agentscope.event import ReplyFinishedReason
from agentscope.message import TextBlock, UserMsg
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit

from astuner_gym.judge import Score
from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult

# A tool without a permission makes the agent stop and ask a person.
ALLOW = PermissionDecision(behavior=PermissionBehavior.ALLOW, message="prices are no secret")


class ShopAssistant:
    """One agent that answers a customer, with one tool that reads the task's prices."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        """Ask the agent; the output is its last reply."""
        prices = task.record["prices"]
        looked_up: list[str] = []

        async def price(item: str) -> ToolChunk:
            """Look up what an item costs.

            Args:
                item: Name of the item.
            """
            looked_up.append(item)
            cost = prices.get(item)
            text = f"There is no {item!r}." if cost is None else str(cost)
            return ToolChunk(content=[TextBlock(text=text)])

        agent = Agent(
            name="assistant",
            system_prompt="Look up both prices. Then answer with the name of the item alone.",
            model=models["assistant"],
            toolkit=Toolkit(tools=[FunctionTool(price, permission=ALLOW)]),
            # The injected state holds the time of day, which no two runs share.
            injection_config=InjectionConfig(inject_runtime_state=False),
            react_config=ReActConfig(max_iters=4),
        )
        reply = await agent.reply(UserMsg(name="user", content=task.text("question")))
        return WorkflowResult(
            output=reply.get_text_content() or "",
            truncated=reply.finished_reason is ReplyFinishedReason.EXCEED_MAX_ITERS,
            metrics={"lookups": len(looked_up)},
        )


def score(task: Task, result: WorkflowResult) -> Score:
    """Give 1 for the right item alone, 0.1 for any answer that names an item, 0 otherwise."""
    words = set(re.findall(r"\w+", str(result.output).lower()))
    named = [item for item in task.record["prices"] if item in words]
    right = named == [task.text("answer")]
    return Score(rewards={"*": 1.0 if right else 0.1 * bool(named)}, success=right)

"""The agent: a plain AgentScope ReAct agent with one tool."""

from __future__ import annotations

from agentscope.agent import Agent, InjectionConfig, ReActConfig
from agentscope.event import ReplyFinishedReason
from agentscope.message import TextBlock, UserMsg
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit

from astuner_envs.gsm8k.calculator import evaluate
from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult

AGENT = "solver"
SYSTEM_PROMPT = "Solve the problem with the calculator. End with #### and the number."
# A tool without a permission makes the agent stop and ask a person.
ALLOW = PermissionDecision(behavior=PermissionBehavior.ALLOW, message="arithmetic is harmless")


def calculator(expression: str) -> ToolChunk:
    """Evaluate arithmetic.

    Args:
        expression: For example 3*(4+5).
    """
    return ToolChunk(content=[TextBlock(text=evaluate(expression))])


class Gsm8kWorkflow:
    """One agent, one question, at most ``max_calls`` replies."""

    def __init__(self, *, max_calls: int) -> None:
        # AgentScope allows one more reply than it counts iterations.
        self._react = ReActConfig(max_iters=max_calls - 1)
        # The calculator keeps no state, so all episodes share it: its schema takes time to make.
        self._toolkit = Toolkit(tools=[FunctionTool(calculator, permission=ALLOW)])

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        """Ask the agent; the output is its last reply."""
        agent = Agent(
            name=AGENT,
            system_prompt=SYSTEM_PROMPT,
            model=models[AGENT],
            toolkit=self._toolkit,
            # The injected state holds the time of day, which no two runs share.
            injection_config=InjectionConfig(inject_runtime_state=False),
            react_config=self._react,
        )
        reply = await agent.reply(UserMsg(name="user", content=task.text("question")))
        return WorkflowResult(
            output=reply.get_text_content() or "",
            truncated=reply.finished_reason is ReplyFinishedReason.EXCEED_MAX_ITERS,
        )

"""An agent that speaks twice, and a judge that tells random replies apart: nothing to learn from
but that something was learnt.
"""

from __future__ import annotations

from agentscope.message import AssistantMsg, UserMsg
from agentscope.model import ChatResponse

from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult


async def run(task: Task, models: Models) -> WorkflowResult:
    """Ask for a number and then for another; the output is both replies."""
    conversation = [UserMsg(name="user", content=task.text("question"))]
    said = []
    for demand in ("", "And another."):
        if demand:
            conversation.append(UserMsg(name="user", content=demand))
        response = await models["speaker"](conversation)
        assert isinstance(response, ChatResponse)
        reply = AssistantMsg(name="speaker", content=list(response.content))
        conversation.append(reply)
        said.append(reply.get_text_content() or "")
    return WorkflowResult(output=said)


def score(task: Task, result: WorkflowResult) -> float:
    """Return the share of small digits in what was said."""
    assert isinstance(result.output, list)
    written = "".join(map(str, result.output))
    return sum(character in "01234" for character in written) / (1 + len(written))

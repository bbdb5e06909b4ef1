"""Three agents discuss a question, vote at once, and are rewarded each for its own vote."""

from __future__ import annotations

from collections import Counter

from agentscope.agent import Agent, InjectionConfig

from astuner_gym.chat.hub import MessageHub
from astuner_gym.judge import Score
from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult

NAMES = ("Ann", "Bob", "Cat")


class Panel:
    """Each speaks once, in turn and heard by the others; then all vote without hearing a vote."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        """Discuss the task's question; the output is each agent's vote, by its name."""
        agents = [
            Agent(
                name=name,
                system_prompt=f"You are {name}, on a panel with {' and '.join(NAMES)}.",
                # One role for all three: they share weights, and are compared with each other.
                model=models.for_role(name, role="panelist"),
                # The injected state holds the time of day, which no two runs share.
                injection_config=InjectionConfig(inject_runtime_state=False),
            )
            for name in NAMES
        ]
        hub = MessageHub(agents)
        await hub.announce(task.text("question"))
        for agent in agents:
            await hub.speak(agent)
        votes = await hub.speak_at_once(agents, "Vote: yes or no?")
        return WorkflowResult(output=dict(zip(NAMES, votes, strict=True)))


def score(task: Task, result: WorkflowResult) -> Score:
    """Pay 1 for a vote that is right, and another half to all if most votes are."""
    # A limit on calls or on context may have ended the talk before the vote.
    votes = result.output if isinstance(result.output, dict) else {}
    right = {name: str(vote).strip() == task.text("answer") for name, vote in votes.items()}
    together = Counter(right.values())[True] > len(NAMES) / 2
    return Score(
        rewards={"*": 0.0} | {name: float(right[name]) + 0.5 * together for name in right},
        success=together,
        metrics={"agree": float(len({*map(str, votes.values())}) == 1)},
    )

"""Group talk between AgentScope agents: what one says, the others hear.

Worked example, three agents of which each speaks once in turn::

    hub = MessageHub([ann, bob, cat])
    await hub.announce("Say hi.")
    for agent in hub.participants:
        await hub.speak(agent)

With the prompts of :class:`astuner_gym.chat.formatter.ExtendingFormatter`, Cat is asked with
``user: "moderator: Say hi."``, ``user: "Ann: Hi."``, ``user: "Bob: Hello."``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agentscope.agent import Agent
from agentscope.message import Msg, TextBlock, UserMsg

from astuner_gym.errors import WorkflowError

MODERATOR = "moderator"
"""Speaker of what no agent says."""


class MessageHub:
    """Passes on the words of its participants: their text, never their thinking or their tools."""

    def __init__(self, participants: Sequence[Agent]) -> None:
        """Open the hub; an agent may be in several at once.

        Raises:
            WorkflowError: Two participants have one name.
        """
        self._participants: dict[str, Agent] = {}
        for agent in participants:
            self.add(agent)

    @property
    def participants(self) -> tuple[Agent, ...]:
        """Who hears and speaks, in the order in which they came."""
        return tuple(self._participants.values())

    def add(self, agent: Agent) -> None:
        """Let an agent take part from now on; it hears nothing of what was said before.

        Raises:
            WorkflowError: There is a participant of that name.
        """
        if agent.name in self._participants:
            raise WorkflowError(
                f"participants are told apart by their names, got two of {agent.name!r}; "
                "give each agent its own"
            )
        self._participants[agent.name] = agent

    def remove(self, agent: Agent) -> None:
        """Let an agent leave.

        Raises:
            WorkflowError: It does not take part.
        """
        self._require(agent)
        del self._participants[agent.name]

    async def announce(self, text: str, *, speaker: str = MODERATOR) -> None:
        """Say something to all participants that none of them says."""
        for agent in self.participants:
            await agent.observe(UserMsg(name=speaker, content=text))

    async def speak(self, agent: Agent, prompt: str | None = None) -> str:
        """Have an agent reply, and let the others hear it.

        Args:
            agent: A participant.
            prompt: Something that it alone is told before, as if by a user.

        Returns:
            What it said.

        Raises:
            WorkflowError: It does not take part.
        """
        (said,) = await self.speak_at_once([agent], prompt)
        return said

    async def speak_at_once(
        self, agents: Sequence[Agent], prompt: str | None = None
    ) -> tuple[str, ...]:
        """Have several agents reply concurrently, none of them hearing another's reply before.

        Then all are told, in the order of ``agents``, whoever was the fastest.

        Raises:
            WorkflowError: One of them does not take part.
        """
        for agent in agents:
            self._require(agent)
        message = None if prompt is None else UserMsg(name="user", content=prompt)
        replies = await asyncio.gather(*(agent.reply(message) for agent in agents))
        said = tuple(reply.get_text_content() or "" for reply in replies)
        for speaker, text in zip(agents, said, strict=True):
            for listener in self.participants:
                if listener is not speaker:
                    await listener.observe(
                        Msg(name=speaker.name, role="assistant", content=[TextBlock(text=text)])
                    )
        return said

    def _require(self, agent: Agent) -> None:
        if self._participants.get(agent.name) is not agent:
            raise WorkflowError(
                f"only participants speak and leave, got {agent.name!r} in a hub of "
                f"{[*self._participants]}; add it first"
            )

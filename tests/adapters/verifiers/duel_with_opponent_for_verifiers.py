"""A plugin module of the same duel, in which the model plays Ann."""

from __future__ import annotations

from duel_for_verifiers import environment

from astuner_gym.adapters.verifiers import plugin
from astuner_gym.chat.messages import ChatCall, ChatReply


class Nodding:
    """Agrees."""

    async def respond(self, call: ChatCall) -> ChatReply:
        return ChatReply(text="Yes.")


DuelTaskset, DuelHarness, DuelEnv = plugin(environment, agent="Ann", opponent=Nodding())

__all__ = ["DuelEnv", "DuelHarness", "DuelTaskset"]

"""Which sequence lies in which cache slot, and what of it a new prompt can reuse."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from astuner_rl.types import EpisodeKey

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORTH_COPYING = 32
"""Tokens that another slot must have in common beyond the own one before they are copied from it,
or waited for."""


@dataclass(frozen=True, slots=True)
class Session:
    """The calls of one agent in one episode: each usually extends the tokens of the last."""

    episode: EpisodeKey
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a prompt goes: its first ``reused`` tokens need not be computed."""

    slot: int
    reused: int
    source: int
    """Slot that holds the reused tokens; they are copied if it is not ``slot``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The prompt's beginning is being computed in ``slot``: wait until it has ``length`` tokens."""

    slot: int
    length: int


class SlotTable:
    """Tokens of S slots of C positions each, in numpy; the tensors lie in ``SlotCache``.

    A slot is busy while a request runs in it. Afterwards its contents stay, in the hope that the
    session's next prompt begins with them, until the slot is needed: free slots go first, then
    those of sessions, the longest idle first. What is reused never changes a result, as prefill
    and decode agree to the last bit; it only saves work.
    """

    def __init__(self, *, slots: int, capacity: int) -> None:
        self.token_ids: NDArray[np.int64] = np.zeros((slots, capacity), np.int64)
        """[S, C] tokens of each slot's sequence."""
        self.cached: NDArray[np.int64] = np.zeros(slots, np.int64)
        """[S] leading tokens whose keys and values are stored."""
        self._promised: NDArray[np.int64] = np.zeros(slots, np.int64)
        """[S] leading tokens whose keys and values are stored or will be when prefill is done."""
        self._free = set(range(slots))
        self._idle: OrderedDict[int, Session] = OrderedDict()
        self._sessions: dict[Session, int] = {}

    def place(self, session: Session, prompt: NDArray[np.int64]) -> Placement | Wait | None:
        """Find a slot for a prompt [P] and make it busy; None if every slot is busy.

        At least the prompt's last token is left to compute, since its logits are needed.
        """
        own = self._sessions.get(session)
        if own is None and not self._free and not self._idle:
            return None
        most = len(prompt) - 1
        if own is not None:
            stored = int(self.cached[own])
            if stored <= most and np.array_equal(self.token_ids[own, :stored], prompt[:stored]):
                return self._take(own, prompt, reused=stored, source=own)
        common = self._common_prefixes(prompt)
        stored_common = np.minimum(common, self.cached)
        promised_common = np.minimum(common, self._promised)
        target = self._target(own)
        source = int(stored_common.argmax())
        if stored_common[source] < stored_common[target] + WORTH_COPYING:
            source = target
        reused = min(int(stored_common[source]), most)
        coming = int(promised_common.argmax())
        if promised_common[coming] >= reused + WORTH_COPYING:
            return Wait(slot=coming, length=int(promised_common[coming]))
        return self._take(target, prompt, reused=reused, source=source)

    def is_over(self, wait: Wait) -> bool:
        """Whether a prompt that was told to wait should be placed again."""
        return bool(
            self.cached[wait.slot] >= wait.length or self._promised[wait.slot] < wait.length
        )

    def leave(self, slot: int, session: Session) -> None:
        """End the request in a slot; its contents stay as the session's, if it has no other."""
        self._promised[slot] = self.cached[slot]
        if session in self._sessions:
            self._free.add(slot)
        else:
            self._sessions[session] = slot
            self._idle[slot] = session

    def release(self, episode: EpisodeKey) -> None:
        """Free the idle slots of an episode."""
        for slot, session in list(self._idle.items()):
            if session.episode == episode:
                del self._idle[slot], self._sessions[session]
                self._free.add(slot)

    def clear(self) -> None:
        """Forget all keys and values; those of busy slots will be computed anew."""
        for slot, session in self._idle.items():
            del self._sessions[session]
            self._free.add(slot)
        self._idle.clear()
        self.cached[:] = 0
        self._promised[list(self._free)] = 0

    def _common_prefixes(self, prompt: NDArray[np.int64]) -> NDArray[np.int64]:
        """[S] length of the longest common prefix of the prompt and each slot's tokens."""
        differs = self.token_ids[:, : len(prompt)] != prompt
        first = differs.argmax(1)
        return np.where(differs[np.arange(len(first)), first], first, len(prompt))

    def _target(self, own: int | None) -> int:
        if own is not None:
            return own
        # The lowest, so that memory is used again and busy slots are neighbours, which are read
        # without a copy.
        return min(self._free) if self._free else next(iter(self._idle))

    def _take(self, slot: int, prompt: NDArray[np.int64], *, reused: int, source: int) -> Placement:
        session = self._idle.pop(slot, None)
        if session is None:
            self._free.remove(slot)
        else:
            del self._sessions[session]
        self.token_ids[slot, : len(prompt)] = prompt
        self.cached[slot] = reused
        self._promised[slot] = len(prompt)
        return Placement(slot=slot, reused=reused, source=source)

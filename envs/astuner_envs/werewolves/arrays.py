"""The game in arrays: what a player knows as numpy arrays, and each decision as an integer.

It holds no rule: which actions are allowed is read off the engine's request. With n players an
action is one of 1 + 5n; in the action's place stands the seat that it is about:

===============  ==================================================
0                choose nobody, or have nothing to say
1 … n            choose a player
n + 1 … 2n       say ``I suspect <player>.``
2n + 1 … 3n      say ``I trust <player>.``
3n + 1 … 4n      say ``I checked <player>: werewolf.``
4n + 1 … 5n      say ``I checked <player>: village.``
===============  ==================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from astuner_envs.werewolves.engine import Answer, Ask, Choice, EventKind, Request, Speech, View
from astuner_envs.werewolves.players import speeches
from astuner_envs.werewolves.rules import Role, Rules, Side
from astuner_envs.werewolves.talk import NOTHING, Claim, claims_in

Observation: TypeAlias = dict[str, NDArray[np.int8]]

CLAIM_KINDS: Final = ((False, True), (False, False), (True, True), (True, False))
"""(checked, is_wolf) of the four sentences, in the order of the actions and of ``claims``."""
FATES: Final = (EventKind.DIED, EventKind.LYNCHED, EventKind.SHOT)
"""The ways to die that the village can tell apart, in the order of ``fates``."""
_POTIONS: Final = (EventKind.HEALED, EventKind.POISONED)
_SPEECHES: Final = {
    EventKind.SPEECH: "claims",
    EventKind.LAST_WORDS: "claims",
    EventKind.WOLF_SPEECH: "pack_claims",
}
_VOTES: Final = {EventKind.VOTE: "votes", EventKind.KILL_VOTE: "kill_votes"}


class Arrays:
    """Reads and writes the arrays of games by one set of rules."""

    def __init__(self, rules: Rules) -> None:
        """Lay out the spaces."""
        self._seats = {player: seat for seat, player in enumerate(rules.players)}
        n = len(rules.players)
        self._answers: tuple[Answer, ...] = (
            Choice(None),
            *(Choice(player) for player in rules.players),
            *(
                Speech(str(Claim(player, is_wolf, checked)))
                for checked, is_wolf in CLAIM_KINDS
                for player in rules.players
            ),
        )
        self._actions = {answer: action for action, answer in enumerate(self._answers)}
        self.action_space: spaces.Discrete[np.int64] = spaces.Discrete(len(self._answers))
        self.observation_space = spaces.Dict(
            {
                "player": _bits(n),
                "role": _bits(len(Role)),
                "pack": _bits(n),
                "alive": _bits(n),
                "fates": _bits(n, len(FATES)),
                "asked": _bits(len(Ask)),
                "round": _numbers(1, low=0, high=rules.rounds),
                "claims": _numbers(n, n, len(CLAIM_KINDS), low=0, high=rules.rounds),
                "pack_claims": _numbers(n, n, len(CLAIM_KINDS), low=0, high=rules.rounds),
                "votes": _bits(n, n),
                "kill_votes": _bits(n, n),
                "victim": _bits(n),
                "checks": _numbers(n, low=-1, high=1),
                "potions": _bits(2),
                "action_mask": _bits(len(self._answers)),
            }
        )

    def observe(self, view: View, request: Request | None) -> Observation:
        """Return what a player knows, int8 throughout, for n players.

        ==============  ==========  ==============================================================
        ``player``      [n]         1 at its own seat
        ``role``        [5]         its own role, in the order of ``Role``
        ``pack``        [n]         werewolves that a werewolf knows
        ``alive``       [n]
        ``fates``       [n, 3]      who died in the night, was lynched, was shot
        ``asked``       [9]         what is asked, in the order of ``Ask``; zeros if nothing is
        ``round``       [1]
        ``claims``      [n, n, 4]   round in which a speaker last said of a player: I suspect, I
                                    trust, I checked: werewolf, I checked: village; 0 for never
        ``pack_claims`` [n, n, 4]   the same of what wolves told their pack
        ``votes``       [n, n]      who voted for whom in the last vote of the village
        ``kill_votes``  [n, n]      the same in the last vote of the pack
        ``victim``      [n]         tonight's victim, if the player was told
        ``checks``      [n]         whom a seer found a werewolf (1) or village (-1)
        ``potions``     [2]         whether a witch still has the healing potion, the poison
        ``action_mask`` [1 + 5n]    actions that answer the request
        ==============  ==========  ==============================================================

        Args:
            view: What the player knows.
            request: What it is asked; None if it is not asked anything.
        """
        seen: Observation = {
            name: np.zeros(space.shape, np.int8)
            for name, space in self.observation_space.spaces.items()
            if space.shape is not None
        }
        seat = self._seats
        seen["player"][seat[view.player]] = 1
        seen["role"][[*Role].index(view.role)] = 1
        seen["pack"][[seat[player] for player in view.pack]] = 1
        seen["alive"][[seat[player] for player in view.alive]] = 1
        if view.role is Role.WITCH:
            seen["potions"][:] = 1
        self._read_events(view, seen)
        if request is not None:
            seen["asked"][[*Ask].index(request.ask)] = 1
            seen["action_mask"][self.allowed(request, view)] = 1
        return seen

    def allowed(self, request: Request, view: View) -> list[int]:
        """Return the actions that answer a request, as many as the uniform player draws from."""
        answers: Sequence[Answer]
        if request.ask.is_speech:
            answers = [Speech(text) for text in speeches(view)]
        else:
            answers = [Choice(target) for target in request.targets]
            if request.may_pass:
                answers.append(Choice(None))
        return sorted(self.action(answer) for answer in answers)

    def answer(self, action: int, request: Request) -> Answer:
        """Return what an action means as the answer to a request.

        An action outside the space is no answer; whether the rules allow one is the engine's
        business.
        """
        if action == 0 and request.ask.is_speech:
            return Speech(NOTHING)
        return self._answers[action] if 0 <= action < len(self._answers) else None

    def action(self, answer: Answer) -> int:
        """Return the action that stands for an answer; of a speech, for its first claim.

        The inverse of :meth:`answer` for all that the scripted players say. An answer that did not
        come is -1, which is no action.
        """
        if answer is None:
            return -1
        if isinstance(answer, Speech):
            first = next(iter(claims_in(answer.text)), None)
            return 0 if first is None else self._actions.get(Speech(str(first)), 0)
        return self._actions.get(answer, -1)

    def _read_events(self, view: View, seen: Observation) -> None:
        seat = self._seats
        before = None
        for event in view.events:
            kind = event.kind
            if kind is EventKind.NIGHT:
                seen["round"][0] = event.round
                seen["victim"][:] = 0
            elif kind in _SPEECHES:
                self._read_claims(event.player, event.text, event.round, seen[_SPEECHES[kind]])
            elif kind in _VOTES:
                votes = seen[_VOTES[kind]]
                if kind is not before:  # those of one vote follow each other
                    votes[:] = 0
                if event.target:
                    votes[seat[event.player], seat[event.target]] = 1
            elif kind is EventKind.VICTIM:
                seen["victim"][seat[event.target]] = 1
            elif kind is EventKind.CHECKED:
                seen["checks"][seat[event.target]] = 1 if event.text == Side.WOLVES else -1
            elif kind in _POTIONS:
                seen["potions"][_POTIONS.index(kind)] = 0
            elif kind in FATES:
                dead = event.target if kind is EventKind.SHOT else event.player
                seen["fates"][seat[dead], FATES.index(kind)] = 1
            before = kind

    def _read_claims(self, speaker: str, text: str, round_: int, into: NDArray[np.int8]) -> None:
        for claim in claims_in(text):
            # Names of those who do not play can be said too.
            if claim.target in self._seats:
                kind = CLAIM_KINDS.index((claim.checked, claim.is_wolf))
                into[self._seats[speaker], self._seats[claim.target], kind] = round_


def _bits(*shape: int) -> spaces.Box:
    return _numbers(*shape, low=0, high=1)


def _numbers(*shape: int, low: int, high: int) -> spaces.Box:
    return spaces.Box(low, high, shape, np.int8)

"""Claims: what a speech says of other players, in the few sentences that scripts and arrays know.

A speech is free text. What the scripted players and the structured view understand of it are these
sentences, anywhere in it and whatever surrounds them:

==================================  ============================================
``I suspect Ben.``                  Ben is a werewolf, in the speaker's opinion
``I trust Ben.``                    Ben is not
``I checked Ben: werewolf.``        The speaker says to be the seer and to know
``I checked Ben: village.``
==================================  ============================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from astuner_envs.werewolves.rules import NAMES

NOTHING = "I have nothing to say."


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence about one player, true or not."""

    target: str
    is_wolf: bool
    checked: bool = False
    """Whether the speaker says to know it as the seer."""

    def __str__(self) -> str:
        """Return the sentence."""
        if self.checked:
            return f"I checked {self.target}: {'werewolf' if self.is_wolf else 'village'}."
        return f"I {'suspect' if self.is_wolf else 'trust'} {self.target}."


_SENTENCE = re.compile(
    rf"\bI (?:(?P<opinion>suspect|trust) (?P<seen>{'|'.join(NAMES)})\b"
    rf"|checked (?P<checked>{'|'.join(NAMES)}): (?P<side>werewolf|village)\b)"
)


@lru_cache(maxsize=4096)  # scripted players read the same speeches over and over
def claims_in(speech: str) -> tuple[Claim, ...]:
    """Return the claims in a speech, in order; names that are nobody's in the game included."""
    claims = []
    for match in _SENTENCE.finditer(speech):
        if match["checked"]:
            claims.append(Claim(match["checked"], match["side"] == "werewolf", checked=True))
        else:
            claims.append(Claim(match["seen"], match["opinion"] == "suspect"))
    return tuple(claims)

"""The rules of a game of werewolves, each of them a setting."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from astuner_gym.errors import SettingError

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hal", "Ivy", "Jon", "Kim", "Leo")
"""Players by seat: plain first names, which are one token each in most vocabularies."""


class Role(StrEnum):
    """What a player secretly is."""

    WEREWOLF = "werewolf"
    VILLAGER = "villager"
    SEER = "seer"
    WITCH = "witch"
    HUNTER = "hunter"

    @property
    def side(self) -> Side:
        """Whom the role wins with."""
        return Side.WOLVES if self is Role.WEREWOLF else Side.VILLAGE


class Side(StrEnum):
    """Who wins together."""

    WOLVES = "wolves"
    VILLAGE = "village"

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that win with this side."""
        return tuple(role for role in Role if role.side is self)


class Tie(StrEnum):
    """What happens when the village's vote is tied."""

    RANDOM = "random"
    """One of those tied is lynched."""
    NONE = "none"
    """Nobody is lynched."""
    REVOTE = "revote"
    """All vote once more, for one of those tied; if they are tied again, nobody is lynched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who plays, and by which rules.

    A round is a night and a day. In the night the wolves talk, then choose a victim by vote; the
    seer learns whether a player is a werewolf; the witch is told the victim and may heal it with
    her one healing potion or poison another player with her one poison. Then the dead are named,
    not how they died. By day all talk in the order of their seats, then vote at once.

    Raises:
        SettingError: A rule cannot be played.
    """

    werewolves: int = 3
    villagers: int = 3
    seer: bool = True
    witch: bool = True
    hunter: bool = True
    wolf_talks: int = 1
    """Times that each wolf speaks before a kill; a lone wolf never talks to itself."""
    talks: int = 1
    """Times that each player speaks in a day."""
    last_words: bool = True
    """Whether those speak who die in the first night, by the vote or by the hunter."""
    self_vote: bool = False
    """Whether players may vote to lynch themselves."""
    wolves_may_target_wolves: bool = False
    """Whether the pack may choose one of its own as the victim."""
    witch_may_heal_self: bool = False
    """Whether the witch may heal herself when the pack has chosen her."""
    witch_may_use_both: bool = False
    """Whether healing leaves the witch her poison in the same night."""
    tie: Tie = Tie.RANDOM
    parity: bool = True
    """Wolves win once they are as many as the others; if false, once the others are dead."""
    rounds: int = 6
    """Rounds after which a game without a winner is cut short: nobody has won it."""
    speech_chars: int = 200
    """Characters that are heard of a speech; what is longer is cut."""

    def __post_init__(self) -> None:
        if self.werewolves < 1:
            raise SettingError(f"a game needs at least 1 werewolf, got {self.werewolves}")
        if self.villagers < 0:
            raise SettingError(f"villagers must be >= 0, got {self.villagers}")
        if len(self.roles) > len(NAMES):
            raise SettingError(f"a game has at most {len(NAMES)} players, got {len(self.roles)}")
        if 2 * self.werewolves >= len(self.roles):
            raise SettingError(
                "werewolves must be fewer than the others, or they have won before the first "
                f"night, got {self.werewolves} of {len(self.roles)} players"
            )
        if self.rounds > 100:
            raise SettingError(
                f"env.rounds must be <= 100, got {self.rounds}; set env.rounds=100 or less"
            )
        # Those that are settings of ``env=werewolves`` are called as they are there.
        for name, value, least in (
            ("env.wolf_talks", self.wolf_talks, 0),
            ("env.talks", self.talks, 0),
            ("env.rounds", self.rounds, 1),
            ("speech_chars", self.speech_chars, 1),
        ):
            if value < least:
                raise SettingError(
                    f"{name} must be >= {least}, got {value}; set {name}={least} or more"
                )

    @property
    def roles(self) -> tuple[Role, ...]:
        """Every player's role, not yet dealt out."""
        return (
            *[Role.WEREWOLF] * self.werewolves,
            *[Role.VILLAGER] * self.villagers,
            *[Role.SEER] * self.seer,
            *[Role.WITCH] * self.witch,
            *[Role.HUNTER] * self.hunter,
        )

    @property
    def players(self) -> tuple[str, ...]:
        """Names of the players, by seat."""
        return NAMES[: len(self.roles)]


NINE_PLAYERS = Rules()
SEVEN_PLAYERS = Rules(werewolves=2, villagers=3, hunter=False)

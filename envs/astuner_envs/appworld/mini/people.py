"""Who lives in the mini world: every person has an account in each of its apps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

APPS: Final = ("phone", "simple_note", "todoist", "venmo")
"""The apps in which people have accounts."""

_NAMES: Final = (
    ("Ada", "Berg"),
    ("Ben", "Cole"),
    ("Cleo", "Dunn"),
    ("Dan", "Ekman"),
    ("Eva", "Frost"),
    ("Finn", "Gray"),
    ("Gita", "Hale"),
    ("Hugo", "Ivers"),
    ("Iris", "Jung"),
    ("Jon", "Kemp"),
    ("Kira", "Lund"),
    ("Leo", "Marsh"),
)


@dataclass(frozen=True, slots=True)
class Person:
    """One person, who may ask the agent for something."""

    id: int
    """From 1, in every app."""
    first_name: str
    last_name: str

    @property
    def name(self) -> str:
        """First and last name."""
        return f"{self.first_name} {self.last_name}"

    @property
    def email(self) -> str:
        """User name in every app but the phone's."""
        return f"{self.first_name.lower()}@mail.com"

    @property
    def phone_number(self) -> str:
        """Ten digits: user name in the phone app."""
        return f"55501{self.id:02d}{(self.id * 389) % 1000:03d}"

    @property
    def password(self) -> str:
        """The same in every app, so that the agent has one thing to look up."""
        return f"{self.last_name.lower()}-{(self.id * 271) % 1000:03d}"

    def username(self, app: str) -> str:
        """What the person logs into an app with."""
        return self.phone_number if app == "phone" else self.email


PEOPLE: Final = tuple(Person(index, *names) for index, names in enumerate(_NAMES, start=1))

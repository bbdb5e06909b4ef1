"""Things that break, what people say first, and what they say beside the point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A kind of case."""

    name: str
    """The thing."""
    complaints: tuple[str, ...]
    slots: tuple[str, ...]
    """What matters whatever else is said, in the order in which a clerk would ask."""


def _topic(name: str, slots: str, *complaints: str) -> Topic:
    return Topic(name=name, complaints=complaints, slots=tuple(slots.split()))


TRAIN_TOPICS: Final = (
    _topic(
        "router",
        "sign onset change tried",
        "My router has no internet.",
        "The internet is gone, the router is dead.",
        "Our router drops the line.",
    ),
    _topic(
        "heater",
        "age change noise urgent",
        "My heater stays cold.",
        "The heater does not get warm.",
        "Our heater gives no heat.",
    ),
    _topic(
        "washer",
        "noise place often age",
        "My washer does not spin.",
        "The washer stops half way.",
        "Our washer eats the laundry.",
    ),
    _topic(
        "fridge",
        "age sign place home",
        "My fridge is warm.",
        "The fridge does not cool.",
        "Our fridge spoils the milk.",
    ),
    _topic(
        "printer",
        "sign tried often urgent",
        "My printer prints blank pages.",
        "The printer jams.",
        "Our printer refuses to print.",
    ),
    _topic(
        "oven",
        "onset sign often home",
        "My oven burns the bread.",
        "The oven does not bake.",
        "Our oven goes out by itself.",
    ),
    _topic(
        "lock",
        "onset tried change urgent",
        "My lock does not turn.",
        "The lock is stuck.",
        "Our key turns in the lock and nothing moves.",
    ),
    _topic(
        "pump",
        "place onset often home",
        "My pump does not pump.",
        "The pump has stopped.",
        "Our pump runs and moves nothing.",
    ),
)
UNSEEN_TOPICS: Final = (
    _topic(
        "toaster",
        "age change tried urgent",
        "My toaster does not toast.",
        "The toaster burns everything.",
    ),
    _topic(
        "dryer",
        "noise place change home",
        "My dryer leaves the clothes wet.",
        "The dryer does not start.",
    ),
)

GREETINGS: Final = ("", "", "", "Hello.", "Hi there!", "Good day,", "Excuse me,", "Hey,")
FILLINGS: Final = ("", "", "", "", "Well,", "Hm,", "Let me think.", "Oh,", "Yes, so,", "You know,")
ASIDES: Final = (
    "Sorry, the line is bad.",
    "Wait, there is someone at the window.",
    "I hope that you can help.",
    "You have a nice voice.",
    "It is a shame.",
)
DODGES: Final = (
    "I would have to look.",
    "No idea, ask me later.",
    "Let me check that in a minute.",
    "What do you mean?",
    "Hold on, please.",
)
DISTRACTORS: Final = (
    "My neighbour has a new one, bought in May.",
    "My neighbour's is old and works.",
    "My sister had one that started to fail in March.",
    "My brother always has trouble with his.",
    "My aunt hears noise from hers.",
    "My neighbour has a light on his.",
    "My cousin looks at a screen all day.",
    "My colleague tried a restart with his.",
    "My colleague moved in the storm.",
    "My aunt has hers in the kitchen.",
    "My brother keeps his in the cellar.",
    "My sister is at home all day.",
    "My cousin is always in a hurry.",
    "My neighbour says that it is urgent for him too.",
    "My aunt has a code for everything.",
    "My cousin lost the receipt of his.",
)
"""Of other people's things, in the words of slots."""
CLOSINGS: Final = (
    "Thank you, that is all I need.",
    "Good, somebody will see to it.",
    "Then I have everything.",
)

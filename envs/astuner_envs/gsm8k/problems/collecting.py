"""Scenarios in which a number of things grows and shrinks, clause by clause.

The running number is `t`. Most slots hold interchangeable clauses, so the order and the kinds of
the changes are themselves parts that can be combined.
"""

from __future__ import annotations

from typing import Final

from astuner_envs.gsm8k.problems.clauses import Clause, Template, clause
from astuner_envs.gsm8k.problems.words import (
    ANIMALS,
    BAKED,
    CLOTHES,
    FRUITS,
    NOTHING,
    PLANTS,
    SCHOOL,
    TOYS,
)

_LEFT: Final = clause(
    "left",
    "",
    "",
    "How many {items} does {name} have now?",
    "How many {items} does {name} have in the end?",
)
_SHARE: Final = clause(
    "share",
    "n 2-9",
    "t = t / n",
    "{He} puts all of the {items} into {n} equal bags. How many {items} are in each bag?",
    "Then {he} shares all of the {items} equally among {n} friends. "
    "How many {items} does each friend get?",
)
_SELL: Final = clause(
    "sell",
    "n 2-9",
    "t = t * n",
    "{He} sells all of the {items} for {n} dollars each. How many dollars does {he} get?",
    "Then {he} sells every {item} for {n} dollars. How many dollars does {name} get in all?",
)
_ENDINGS: Final = (_LEFT, _SHARE, _SELL)

_FIND: Final = clause(
    "find",
    "n 5-60",
    "t = t + n",
    "{He} finds {n} more {items} at home.",
    "Then {other} gives {him} {n} more {items}.",
    "The next day {he} gets {n} more {items}.",
)
_BAGS: Final = clause(
    "bags",
    "n 2-9; m 3-12",
    "p = n * m; t = t + p",
    "Then {he} buys {n} bags with {m} {items} in each bag.",
    "{He} gets {n} more bags of {items}, and each bag holds {m} {items}.",
)
_LOSE: Final = clause(
    "lose",
    "n 3-40",
    "t = t - n",
    "Then {he} loses {n} of the {items}.",
    "{He} gives {n} {items} to {other}.",
)
_GIFTS: Final = clause(
    "gifts",
    "n 2-6; m 2-9",
    "p = n * m; t = t - p",
    "{He} gives {n} {items} to each of {m} friends.",
    "Then each of {n} friends takes {m} {items}.",
)
_DOUBLE: Final = clause(
    "double",
    "",
    "t = t * 2",
    "A month later {he} has twice as many {items}.",
    "Then {he} doubles the number of {items}.",
)
_HALVE: Final = clause(
    "halve",
    "",
    "t = t / 2",
    "{He} gives half of the {items} to {other}.",
    "Then {he} loses half of the {items}.",
)
_CHANGES: Final = (_FIND, _BAGS, _LOSE, _GIFTS, _DOUBLE, _HALVE)


def _have(*texts: str) -> Clause:
    return clause("have", "n 20-120", "t = n", *texts)


TEMPLATES: Final = (
    Template(
        "collection",
        TOYS,
        (
            (
                _have(
                    "{name} has {n} {items} in a box.",
                    "{name} starts the week with {n} {items}.",
                    "At home {name} keeps {n} {items}.",
                ),
            ),
            _CHANGES,
            _CHANGES,
            _ENDINGS,
        ),
    ),
    Template(
        "long_collection",
        TOYS + SCHOOL,
        (
            (
                _have(
                    "{name} owns {n} {items}.",
                    "There are {n} {items} on the table of {name}.",
                ),
            ),
            (_FIND, _BAGS),
            (_LOSE, _GIFTS, _HALVE),
            (_FIND, _DOUBLE, _LOSE),
            (_LEFT, _SELL),
        ),
    ),
    Template(
        "orchard",
        FRUITS,
        (
            (
                clause(
                    "trees",
                    "n 3-12; m 5-20",
                    "t = n * m",
                    "{name} picks {m} {items} from each of {n} trees.",
                    "There are {n} trees in a garden, and {name} picks {m} {items} from each tree.",
                ),
                clause(
                    "times",
                    "n 20-90; m 10-60",
                    "t = n + m",
                    "{name} picks {n} {items} in the morning and {m} {items} in the evening.",
                    "{name} picks {n} {items} on Monday and {m} more {items} on Friday.",
                ),
            ),
            (_LOSE, _GIFTS, _HALVE, _DOUBLE),
            _ENDINGS,
        ),
    ),
    Template(
        "bakery",
        BAKED,
        (
            (
                clause(
                    "trays",
                    "n 3-9; m 6-20",
                    "t = n * m",
                    "{name} bakes {n} trays with {m} {items} on each tray.",
                    "{name} bakes {n} trays of {items}. Each tray holds {m} {items}.",
                ),
                clause(
                    "daily",
                    "n 8-30; m 3-7",
                    "t = n * m",
                    "{name} bakes {n} {items} every day for {m} days.",
                    "Every day {name} bakes {n} {items}, and {he} does so for {m} days.",
                ),
            ),
            (
                clause(
                    "eat",
                    "n 3-30",
                    "t = t - n",
                    "The children eat {n} of the {items}.",
                    "Then {other} eats {n} of the {items}.",
                ),
                _HALVE,
                _FIND,
            ),
            _ENDINGS,
        ),
    ),
    Template(
        "farm",
        ANIMALS,
        (
            (
                _have(
                    "{name} has a farm with {n} {items}.",
                    "There are {n} {items} on the farm of {name}.",
                ),
            ),
            (
                clause(
                    "buy",
                    "n 5-40",
                    "t = t + n",
                    "In spring {he} buys {n} more {items}.",
                    "Then {he} buys {n} {items} from {other}.",
                ),
                clause(
                    "sale",
                    "n 5-40",
                    "t = t - n",
                    "In spring {he} sells {n} of the {items}.",
                    "Then {other} buys {n} {items} from {him}.",
                ),
                _DOUBLE,
                _HALVE,
            ),
            (
                clause(
                    "food",
                    "n 2-9",
                    "t = t * n",
                    "Now each {item} eats {n} bags of food. How many bags of food do they eat?",
                    "Every {item} now needs {n} bags of food. How many bags does {name} need?",
                ),
                clause(
                    "pens",
                    "n 3-9",
                    "t = t / n",
                    "{He} now keeps {n} {items} in each house. How many houses does {he} need?",
                    "Each house holds {n} {items}. How many houses does {he} need now?",
                ),
            ),
        ),
    ),
    Template(
        "garden",
        PLANTS,
        (
            (
                clause(
                    "rows",
                    "n 3-12; m 4-15",
                    "t = n * m",
                    "{name} plants {n} rows with {m} {items} in each row.",
                    "The garden of {name} has {n} rows of {items}, with {m} {items} in each row.",
                ),
            ),
            (
                clause(
                    "die",
                    "n 2-20",
                    "t = t - n",
                    "In winter {n} of the {items} die.",
                    "After a cold night {n} {items} are dead.",
                ),
                clause(
                    "third",
                    "",
                    "p = t / 3; t = t - p",
                    "In winter one third of the {items} die.",
                    "A third of the {items} die in a cold night.",
                ),
            ),
            (
                clause(
                    "plant",
                    "n 5-40",
                    "t = t + n",
                    "In spring {he} plants {n} more {items}.",
                    "Then {other} plants {n} new {items} there.",
                ),
                _DOUBLE,
            ),
            (
                clause(
                    "count",
                    "",
                    "",
                    "How many {items} are in the garden now?",
                    "How many {items} does the garden have in the end?",
                ),
            ),
        ),
    ),
    Template(
        "bus",
        NOTHING,
        (
            (
                clause(
                    "ride",
                    "n 12-60",
                    "t = n",
                    "A bus leaves the city with {n} people.",
                    "There are {n} people on a bus.",
                ),
            ),
            *(
                (
                    clause(
                        "change",
                        "n 3-20; m 3-25",
                        "t = t - n; t = t + m",
                        f"At the {stop} stop {{n}} people get off and {{m}} people get on.",
                        f"At the {stop} stop {{n}} people leave the bus, and {{m}} new people "
                        "get on.",
                    ),
                    clause(
                        "half",
                        "",
                        "t = t / 2",
                        f"At the {stop} stop half of the people get off.",
                        f"Half of the people leave the bus at the {stop} stop.",
                    ),
                    clause(
                        "board",
                        "n 4-25",
                        "t = t + n",
                        f"At the {stop} stop {{n}} more people get on.",
                        f"Then {{n}} people get on at the {stop} stop.",
                    ),
                )
                for stop in ("first", "second")
            ),
            (
                clause(
                    "riders",
                    "",
                    "",
                    "How many people are on the bus now?",
                    "How many people are on the bus in the end?",
                ),
                clause(
                    "fare",
                    "n 2-6",
                    "t = t * n",
                    "Now each person on the bus pays {n} dollars. How many dollars is that in all?",
                    "The people now on the bus pay {n} dollars each. "
                    "How many dollars do they pay in all?",
                ),
            ),
        ),
    ),
    Template(
        "tank",
        NOTHING,
        (
            (
                clause(
                    "fill",
                    "n 3-15; m 5-20",
                    "t = n * m",
                    "A tank gets {n} liters of water every minute for {m} minutes.",
                    "For {m} minutes, {n} liters of water run into a tank every minute.",
                ),
                clause(
                    "full",
                    "n 50-200/10; m 10-60/5",
                    "t = n + m",
                    "A tank holds {n} liters of water, and {name} adds {m} liters.",
                    "{name} pours {m} liters of water into a tank that has {n} liters in it.",
                ),
            ),
            (
                clause(
                    "use",
                    "n 5-40",
                    "t = t - n",
                    "Then {name} uses {n} liters for the garden.",
                    "{name} takes {n} liters out for the cows.",
                ),
                clause(
                    "leak",
                    "",
                    "t = t / 2",
                    "Then half of the water runs out.",
                    "{name} uses half of the water for the garden.",
                ),
            ),
            (
                clause(
                    "remain",
                    "",
                    "",
                    "How many liters of water are left in the tank?",
                    "How many liters of water does the tank have in the end?",
                ),
                clause(
                    "cans",
                    "n 2-9",
                    "t = t / n",
                    "The rest goes into cans of {n} liters each. How many cans does {he} need?",
                    "{He} fills cans with the rest, {n} liters in each. How many cans are there?",
                ),
            ),
        ),
    ),
    Template(
        "game",
        NOTHING,
        (
            (
                clause(
                    "rounds",
                    "n 3-9; m 5-20",
                    "t = n * m",
                    "In a game {name} plays {n} rounds and wins {m} points in each round.",
                    "{name} wins {m} points in each of {n} rounds of a game.",
                ),
                clause(
                    "start",
                    "n 20-90; m 10-60",
                    "t = n + m",
                    "{name} wins {n} points in the first game and {m} points in the second game.",
                    "In a game {name} has {n} points and then wins {m} more points.",
                ),
            ),
            (
                clause(
                    "fine",
                    "n 2-20",
                    "t = t - n",
                    "Then {he} loses {n} points.",
                    "For being late {he} loses {n} points.",
                ),
                clause(
                    "bonus",
                    "",
                    "t = t * 2",
                    "Then the points of {name} double.",
                    "The last card doubles the points of {name}.",
                ),
            ),
            (
                clause(
                    "points",
                    "",
                    "",
                    "How many points does {name} have in the end?",
                    "How many points does {name} have now?",
                ),
                clause(
                    "prizes",
                    "n 2-9",
                    "t = t / n",
                    "One prize costs {n} points. How many prizes can {he} get?",
                    "A prize costs {n} points. How many prizes can {name} get?",
                ),
            ),
        ),
    ),
    Template(
        "shelf",
        SCHOOL + CLOTHES,
        (
            (
                clause(
                    "boxes",
                    "n 3-9; m 6-24",
                    "t = n * m",
                    "A shop has {n} boxes with {m} {items} in each box.",
                    "There are {n} boxes of {items} in a shop. Each box holds {m} {items}.",
                ),
            ),
            (
                clause(
                    "sold",
                    "n 5-40",
                    "t = t - n",
                    "On Monday the shop sells {n} {items}.",
                    "On Monday people buy {n} of the {items}.",
                ),
                clause(
                    "arrive",
                    "n 5-40",
                    "t = t + n",
                    "On Monday the shop gets {n} more {items}.",
                    "On Monday {n} new {items} come in.",
                ),
            ),
            (
                clause(
                    "friday",
                    "n 5-40",
                    "t = t - n",
                    "On Friday it sells {n} {items}.",
                    "On Friday people buy {n} {items}.",
                ),
                clause(
                    "most",
                    "",
                    "t = t / 2",
                    "On Friday it sells half of the rest.",
                    "On Friday half of the {items} are sold.",
                ),
            ),
            (
                clause(
                    "stock",
                    "",
                    "",
                    "How many {items} are left in the shop?",
                    "How many {items} does the shop have in the end?",
                ),
            ),
        ),
    ),
)

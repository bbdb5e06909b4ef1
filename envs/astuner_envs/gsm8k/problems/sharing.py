"""Scenarios of equal shares, remainders of a whole, and fractions."""

from __future__ import annotations

from typing import Final

from astuner_envs.gsm8k.problems.clauses import Template, clause
from astuner_envs.gsm8k.problems.words import BAKED, FRUITS, NOTHING, PLANTS, SCHOOL, TOYS

TEMPLATES: Final = (
    Template(
        "party",
        BAKED,
        (
            (
                clause(
                    "guests",
                    "n 4-20; m 2-6",
                    "t = n * m; g = n",
                    "{n} friends come to a party, and each friend eats {m} {items}.",
                    "At a party each of {n} friends eats {m} {items}.",
                ),
            ),
            (
                clause(
                    "left",
                    "n 3-20",
                    "t = t + n",
                    "After the party {n} {items} are left.",
                    "In the end there are still {n} {items} on the table.",
                ),
                clause(
                    "family",
                    "n 2-5; m 2-5",
                    "p = n * m; t = t + p",
                    "Then {n} adults eat {m} {items} each.",
                    "{n} adults come too, and each eats {m} {items}.",
                ),
            ),
            (
                clause(
                    "start",
                    "",
                    "",
                    "How many {items} were there at the start of the party?",
                    "How many {items} does {name} bake for the party?",
                ),
                clause(
                    "trays",
                    "n 2-9",
                    "t = t / n",
                    "Each tray holds {n} {items}. How many trays does {name} bake?",
                    "{name} bakes {n} {items} on one tray. How many trays does {he} need?",
                ),
            ),
        ),
    ),
    Template(
        "equal_shares",
        TOYS + FRUITS,
        (
            (
                clause(
                    "pool",
                    "n 10-90; m 10-90",
                    "t = n + m",
                    "{name} has {n} {items} and {other} has {m} {items}.",
                    "{name} brings {n} {items}, and {other} brings {m} {items}.",
                ),
                clause(
                    "bags",
                    "n 3-12; m 4-20",
                    "t = n * m",
                    "{name} and {other} have {n} bags of {m} {items}.",
                    "{other} brings {name} {n} bags, and each bag holds {m} {items}.",
                ),
            ),
            (
                clause(
                    "share",
                    "n 2-6",
                    "t = t / n",
                    "{n} children share all of the {items} equally.",
                    "They put all of the {items} into {n} equal boxes, one for each child.",
                ),
            ),
            (
                clause(
                    "lose",
                    "n 2-9",
                    "t = t - n",
                    "One child then loses {n} {items}. How many {items} does this child have?",
                    "Then one child eats or loses {n} of them. "
                    "How many {items} does this child have now?",
                ),
                clause(
                    "add",
                    "n 2-20",
                    "t = t + n",
                    "One child then finds {n} more {items}. How many {items} does this child have?",
                    "Then one child gets {n} more. How many {items} does this child have now?",
                ),
            ),
        ),
    ),
    Template(
        "fractions_spent",
        SCHOOL + PLANTS,
        (
            (
                clause(
                    "stock",
                    "n 24-240/12",
                    "t = n",
                    "A shop starts the day with {n} {items}.",
                    "In the morning a shop has {n} {items}.",
                ),
            ),
            (
                clause(
                    "half",
                    "",
                    "t = t / 2",
                    "It sells half of the {items} before lunch.",
                    "Before lunch people buy half of the {items}.",
                ),
                clause(
                    "third",
                    "",
                    "p = t / 3; t = t - p",
                    "It sells one third of the {items} before lunch.",
                    "Before lunch people buy a third of the {items}.",
                ),
                clause(
                    "quarter",
                    "",
                    "p = t / 4; t = t - p",
                    "It sells one quarter of the {items} before lunch.",
                    "Before lunch people buy a quarter of the {items}.",
                ),
            ),
            (
                clause(
                    "more",
                    "n 2-20",
                    "t = t - n",
                    "After lunch it sells {n} {items}.",
                    "After lunch {name} buys {n} {items}.",
                ),
                clause(
                    "again",
                    "",
                    "t = t / 2",
                    "After lunch it sells half of the rest.",
                    "After lunch {name} buys half of the {items} left.",
                ),
            ),
            (
                clause(
                    "left",
                    "",
                    "",
                    "How many {items} does the shop have in the evening?",
                    "How many {items} are left in the evening?",
                ),
            ),
        ),
    ),
    Template(
        "shelves",
        SCHOOL + TOYS,
        (
            (
                clause(
                    "old",
                    "n 10-90",
                    "t = n",
                    "{name} has {n} {items} at home.",
                    "There are {n} {items} in the room of {name}.",
                ),
            ),
            (
                clause(
                    "new",
                    "n 2-9; m 4-15",
                    "p = n * m; t = t + p",
                    "{other} brings {n} boxes with {m} {items} in each.",
                    "Then {he} gets {n} boxes of {m} {items}.",
                ),
                clause(
                    "some",
                    "n 10-90",
                    "t = t + n",
                    "{other} brings {n} more {items}.",
                    "Then {he} gets {n} more {items}.",
                ),
            ),
            (
                clause(
                    "shelf",
                    "n 2-9",
                    "t = t / n",
                    "{He} puts {n} {items} in each bag. How many bags does {he} need?",
                    "One bag holds {n} {items}. How many bags can {he} fill?",
                ),
            ),
        ),
    ),
    Template(
        "percent_class",
        NOTHING,
        (
            (
                clause(
                    "class",
                    "n 20-200/20",
                    "t = n",
                    "There are {n} children in a school.",
                    "A school has {n} children.",
                ),
                clause(
                    "classes",
                    "n 2-9; m 20",
                    "t = n * m",
                    "A school has {n} classes of {m} children.",
                    "There are {n} classes with {m} children in each class.",
                ),
            ),
            (
                clause(
                    "percent",
                    "n 10|20|25|50",
                    "p = t * n; q = p / 100",
                    "{n} percent of the children walk to school.",
                    "Of all the children, {n} percent walk to school.",
                ),
            ),
            (
                clause(
                    "ride",
                    "",
                    "t = t - q",
                    "How many children do not walk to school?",
                    "The rest take the bus. How many children take the bus?",
                ),
                clause(
                    "rain",
                    "n 2-9",
                    "t = q + n",
                    "Today {n} more children walk. How many children walk today?",
                    "Now {n} new children walk too. How many children walk now?",
                ),
            ),
        ),
    ),
    Template(
        "picnic",
        FRUITS,
        (
            (
                clause(
                    "each",
                    "n 3-9; m 3-9",
                    "t = n * m",
                    "For a trip {name} packs {n} {items} for each of {m} friends.",
                    "{m} friends go on a trip, and {name} brings {n} {items} for each friend.",
                ),
            ),
            (
                clause(
                    "had",
                    "n 2-20",
                    "t = t - n",
                    "{He} has {n} {items} at home and buys the rest.",
                    "{other} gives {him} {n} of the {items}, and {he} buys the rest.",
                ),
                clause(
                    "spare",
                    "n 2-12",
                    "t = t + n",
                    "{He} also packs {n} {items} for the family and buys them all.",
                    "{He} wants {n} more for the way back and buys them all.",
                ),
            ),
            (
                clause(
                    "price",
                    "n 2-5",
                    "t = t * n",
                    "One {item} costs {n} dollars. How many dollars does {he} pay?",
                    "How many dollars does {he} pay if each {item} costs {n} dollars?",
                ),
                clause(
                    "bags",
                    "n 2-6",
                    "t = t / n",
                    "A bag holds {n} {items}. How many bags does {he} buy?",
                    "The shop sells bags of {n} {items}. How many bags does {he} buy?",
                ),
            ),
        ),
    ),
    Template(
        "pieces",
        BAKED,
        (
            (
                clause(
                    "cut",
                    "n 3-12; m 4-12",
                    "t = n * m",
                    "{name} bakes {n} {items} and cuts each {item} into {m} pieces.",
                    "Each of {n} {items} is cut into {m} pieces by {name}.",
                ),
            ),
            (
                clause(
                    "eat",
                    "n 2-6; m 2-6",
                    "p = n * m; t = t - p",
                    "{n} children eat {m} pieces each.",
                    "Then each of {n} children takes {m} pieces.",
                ),
                clause(
                    "half",
                    "",
                    "t = t / 2",
                    "The children eat half of the pieces.",
                    "Half of the pieces are for {other}.",
                ),
            ),
            (
                clause(
                    "left",
                    "",
                    "",
                    "How many pieces are left?",
                    "How many pieces does {name} still have?",
                ),
                clause(
                    "sell",
                    "n 2-6",
                    "t = t * n",
                    "{He} sells each piece left for {n} dollars. How many dollars does {he} get?",
                    "The rest is sold for {n} dollars a piece. How many dollars does {he} get?",
                ),
                clause(
                    "boxes",
                    "n 2-6",
                    "t = t / n",
                    "The rest goes into boxes of {n} pieces. How many boxes are there?",
                    "{He} puts {n} of the other pieces in each box. How many boxes does {he} need?",
                ),
            ),
        ),
    ),
    Template(
        "library",
        NOTHING,
        (
            (
                clause(
                    "shelves",
                    "n 4-15; m 8-30",
                    "t = n * m",
                    "A room has {n} shelves with {m} books on each shelf.",
                    "In a school there are {n} shelves, and each shelf holds {m} books.",
                ),
            ),
            (
                clause(
                    "lend",
                    "n 10-60",
                    "t = t - n",
                    "The children take {n} books home.",
                    "On Monday {n} of the books are taken home.",
                ),
                clause(
                    "lend_each",
                    "n 5-20; m 2-4",
                    "p = n * m; t = t - p",
                    "On Monday {n} children take {m} books home each.",
                    "Each of {n} children takes {m} books home.",
                ),
            ),
            (
                clause(
                    "return",
                    "n 4-40",
                    "t = t + n",
                    "On Friday {n} books come back.",
                    "On Friday the children bring {n} books back.",
                ),
                clause(
                    "old",
                    "n 4-30",
                    "t = t - n",
                    "{n} old books are sold.",
                    "On Friday the school sells {n} old books.",
                ),
            ),
            (
                clause(
                    "books",
                    "",
                    "",
                    "How many books are on the shelves now?",
                    "How many books are there in the end?",
                ),
            ),
        ),
    ),
)

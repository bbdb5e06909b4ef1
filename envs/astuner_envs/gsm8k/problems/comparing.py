"""Scenarios in which one quantity is told by another: more, fewer, times as many, half as many."""

from __future__ import annotations

from typing import Final

from astuner_envs.gsm8k.problems.clauses import Template, clause
from astuner_envs.gsm8k.problems.words import (
    ANIMALS,
    BAKED,
    FRUITS,
    GOODS,
    NOTHING,
    PLANTS,
    SCHOOL,
    TOYS,
)

_TOGETHER: Final = clause(
    "together",
    "",
    "",
    "How many {items} do they have together?",
    "How many {items} do {name} and {other} have in all?",
)
_GIVE: Final = clause(
    "give",
    "n 2-30",
    "t = t - n",
    "They give {n} of them to the school. How many {items} are left?",
    "They lose {n} of them. How many {items} do they have now?",
)
_EQUAL: Final = clause(
    "equal",
    "n 2-6",
    "t = t / n",
    "They put all of them into {n} equal boxes. How many {items} are in each box?",
    "{n} children share all of them equally. How many {items} does each child get?",
)

TEMPLATES: Final = (
    Template(
        "two_friends",
        TOYS + SCHOOL,
        (
            (
                clause(
                    "one",
                    "n 8-90",
                    "a = n",
                    "{name} has {n} {items}.",
                    "There are {n} {items} in the room of {name}.",
                ),
            ),
            (
                clause(
                    "more",
                    "n 5-40",
                    "b = a + n; t = a + b",
                    "{other} has {n} more {items} than {name}.",
                    "{other} has the same number and {n} {items} more.",
                ),
                clause(
                    "fewer",
                    "n 3-40",
                    "b = a - n; t = a + b",
                    "{other} has {n} fewer {items} than {name}.",
                    "{other} has {n} {items} less than {name}.",
                ),
                clause(
                    "times",
                    "n 2-6",
                    "b = a * n; t = a + b",
                    "{other} has {n} times as many {items} as {name}.",
                    "{other} has {n} times the number of {items}.",
                ),
                clause(
                    "half",
                    "",
                    "b = a / 2; t = a + b",
                    "{other} has half as many {items} as {name}.",
                    "{other} has only half of that number.",
                ),
            ),
            (_TOGETHER, _GIVE, _EQUAL),
        ),
    ),
    Template(
        "three_friends",
        TOYS + FRUITS,
        (
            (
                clause(
                    "one",
                    "n 5-60",
                    "a = n",
                    "{name} has {n} {items}.",
                    "{name} finds {n} {items}.",
                ),
            ),
            (
                clause(
                    "times",
                    "n 2-5",
                    "b = a * n; s = a + b",
                    "{other} has {n} times as many {items} as {name}.",
                    "{other} has {n} times the number of {name}.",
                ),
                clause(
                    "more",
                    "n 3-30",
                    "b = a + n; s = a + b",
                    "{other} has {n} more {items} than {name}.",
                    "{other} has {n} {items} more.",
                ),
            ),
            (
                clause(
                    "third_more",
                    "n 3-30",
                    "c = b + n; t = s + c",
                    "{third} has {n} more {items} than {other}.",
                    "{third} has {n} {items} more than {other}.",
                ),
                clause(
                    "third_half",
                    "",
                    "c = b / 2; t = s + c",
                    "{third} has half as many {items} as {other}.",
                    "{third} has half of the number of {other}.",
                ),
            ),
            (
                clause(
                    "all",
                    "",
                    "",
                    "How many {items} do the three friends have in all?",
                    "How many {items} do they have together?",
                ),
                _EQUAL,
            ),
        ),
    ),
    Template(
        "reds_and_blues",
        GOODS,
        (
            (
                clause(
                    "red",
                    "n 6-60",
                    "a = n",
                    "In a shop there are {n} red {items}.",
                    "A shop has {n} red {items}.",
                ),
            ),
            (
                clause(
                    "blue_times",
                    "n 2-5",
                    "b = a * n; t = a + b",
                    "There are {n} times as many blue {items} as red {items}.",
                    "For each red {item} there are {n} blue {items}.",
                ),
                clause(
                    "blue_more",
                    "n 4-40",
                    "b = a + n; t = a + b",
                    "There are {n} more blue {items} than red {items}.",
                    "The number of blue {items} is higher by {n}.",
                ),
                clause(
                    "blue_half",
                    "",
                    "b = a / 2; t = a + b",
                    "There are half as many blue {items} as red {items}.",
                    "The number of blue {items} is half of that.",
                ),
            ),
            (
                clause(
                    "green",
                    "n 4-40",
                    "t = t + n",
                    "The shop also has {n} green {items}.",
                    "There are also {n} green {items}.",
                ),
                clause(
                    "sold",
                    "n 4-30",
                    "t = t - n",
                    "Then {name} buys {n} of the {items}.",
                    "The shop sells {n} of the {items} to {name}.",
                ),
            ),
            (
                clause(
                    "shop",
                    "",
                    "",
                    "How many {items} are in the shop now?",
                    "How many {items} does the shop have in all?",
                ),
            ),
        ),
    ),
    Template(
        "ages",
        NOTHING,
        (
            (
                clause(
                    "age",
                    "n 5-20",
                    "a = n",
                    "{name} is {n} years old now.",
                    "Today {name} is {n} years old.",
                ),
            ),
            (
                clause(
                    "times",
                    "n 2-4",
                    "b = a * n",
                    "{other} is {n} times as old as {name}.",
                    "The age of {other} is {n} times the age of {name}.",
                ),
                clause(
                    "older",
                    "n 3-30",
                    "b = a + n",
                    "{other} is {n} years older than {name}.",
                    "{name} is {n} years younger than {other}.",
                ),
            ),
            (
                clause(
                    "future",
                    "n 2-20",
                    "t = b + n",
                    "How old is {other} in {n} years?",
                    "How many years old is {other} {n} years from now?",
                ),
                clause(
                    "past",
                    "n 2-6",
                    "t = b - n",
                    "How old was {other} {n} years ago?",
                    "How many years old was {other} {n} years ago?",
                ),
                clause(
                    "sum",
                    "",
                    "t = a + b",
                    "How old are they together?",
                    "How many years are the two ages together?",
                ),
            ),
        ),
    ),
    Template(
        "two_farms",
        ANIMALS,
        (
            (
                clause(
                    "first",
                    "n 10-80",
                    "a = n",
                    "The farm of {name} has {n} {items}.",
                    "{name} keeps {n} {items} on a farm.",
                ),
            ),
            (
                clause(
                    "fewer",
                    "n 3-30",
                    "b = a - n",
                    "The farm of {other} has {n} {items} less.",
                    "{other} keeps {n} fewer {items} than {name}.",
                ),
                clause(
                    "twice",
                    "",
                    "b = a * 2",
                    "The farm of {other} has twice as many {items}.",
                    "{other} keeps twice as many {items} as {name}.",
                ),
                clause(
                    "half",
                    "",
                    "b = a / 2",
                    "The farm of {other} has half as many {items}.",
                    "{other} keeps half as many {items} as {name}.",
                ),
            ),
            (
                clause(
                    "bought",
                    "n 3-30",
                    "b = b + n; t = a + b",
                    "Then {other} buys {n} more {items}.",
                    "In spring {other} gets {n} more {items}.",
                ),
                clause(
                    "gone",
                    "n 2-8",
                    "b = b - n; t = a + b",
                    "Then {other} sells {n} {items}.",
                    "In spring {other} loses {n} {items}.",
                ),
            ),
            (
                clause(
                    "farms",
                    "",
                    "",
                    "How many {items} do the two farms have together?",
                    "How many {items} are on the two farms now?",
                ),
            ),
        ),
    ),
    Template(
        "difference",
        PLANTS + BAKED,
        (
            (
                clause(
                    "first",
                    "n 5-15; m 6-15",
                    "a = n * m",
                    "{name} has {n} boxes with {m} {items} in each box.",
                    "There are {n} boxes of {m} {items} in the house of {name}.",
                ),
            ),
            (
                clause(
                    "second",
                    "n 2-9; m 2-9",
                    "b = n * m; t = a - b",
                    "{other} has {n} bags with {m} {items} in each bag.",
                    "{other} fills {n} bags with {m} {items} each.",
                ),
                clause(
                    "loose",
                    "n 5-40",
                    "t = a - n",
                    "{other} has {n} {items}.",
                    "{other} keeps {n} {items} on a table.",
                ),
            ),
            (
                clause(
                    "how",
                    "",
                    "",
                    "How many more {items} does {name} have than {other}?",
                    "How many {items} less than {name} does {other} have?",
                ),
                clause(
                    "after",
                    "n 2-9",
                    "t = t - n",
                    "Then {name} loses {n} of the {items}. "
                    "How many more {items} does {name} have than {other}?",
                    "{name} loses {n} {items}. "
                    "How many more {items} than {other} does {he} have now?",
                ),
            ),
        ),
    ),
    Template(
        "class_votes",
        NOTHING,
        (
            (
                clause(
                    "girls",
                    "n 8-40",
                    "a = n",
                    "There are {n} girls in a class.",
                    "A class has {n} girls.",
                ),
            ),
            (
                clause(
                    "more",
                    "n 2-15",
                    "b = a + n; t = a + b",
                    "There are {n} more boys than girls.",
                    "The class has {n} boys more than girls.",
                ),
                clause(
                    "fewer",
                    "n 2-15",
                    "b = a - n; t = a + b",
                    "There are {n} fewer boys than girls.",
                    "The class has {n} boys less than girls.",
                ),
                clause(
                    "twice",
                    "",
                    "b = a * 2; t = a + b",
                    "There are twice as many boys as girls.",
                    "The class has twice as many boys.",
                ),
            ),
            (
                clause(
                    "teams",
                    "n 2-9",
                    "t = t / n",
                    "They play in {n} equal teams. How many children are in each team?",
                    "For a game they form {n} equal teams. How many children are in one team?",
                ),
                clause(
                    "trip",
                    "n 3-12",
                    "t = t * n",
                    "Each child pays {n} dollars for a trip. How many dollars is that in all?",
                    "A trip costs {n} dollars for each child. How many dollars do they pay in all?",
                ),
                clause(
                    "ill",
                    "n 2-9",
                    "t = t - n",
                    "Today {n} children are at home. How many children are in the class today?",
                    "{n} children do not come today. How many children are in the class today?",
                ),
            ),
        ),
    ),
)

"""Scenarios of earning, saving, making and other work at a rate."""

from __future__ import annotations

from typing import Final

from astuner_envs.gsm8k.problems.clauses import Template, clause
from astuner_envs.gsm8k.problems.words import BAKED, CLOTHES, GOODS, NOTHING, SCHOOL, TOYS

_SPEND: Final = clause(
    "spend",
    "n 5-60",
    "t = t - n",
    "Then {he} spends {n} dollars on food.",
    "{He} pays {n} dollars for a ticket.",
)
_BUY: Final = clause(
    "buy",
    "n 2-6; m 3-12",
    "p = n * m; t = t - p",
    "Then {he} buys {n} books for {m} dollars each.",
    "{He} buys {n} caps, and each cap costs {m} dollars.",
)
_HALF: Final = clause(
    "half",
    "",
    "t = t / 2",
    "Then {he} spends half of the money.",
    "{He} gives half of the money to {other}.",
)
_GIFT: Final = clause(
    "gift",
    "n 5-60",
    "t = t + n",
    "Then {other} gives {him} {n} dollars.",
    "{He} also gets {n} dollars from the family.",
)
_MONEY: Final = (_SPEND, _BUY, _HALF, _GIFT)
_HAS: Final = clause(
    "has",
    "",
    "",
    "How many dollars does {name} have now?",
    "How many dollars does {name} have in the end?",
)
_NEEDS: Final = clause(
    "needs",
    "n 300-600/10",
    "t = n - t",
    "A new bike costs {n} dollars. How many more dollars does {he} need?",
    "{name} wants a bike for {n} dollars. How many more dollars does {he} need?",
)

TEMPLATES: Final = (
    Template(
        "wages",
        NOTHING,
        (
            (
                clause(
                    "hours",
                    "n 3-12; m 5-20",
                    "t = n * m",
                    "{name} works {n} hours for {m} dollars an hour.",
                    "For each hour of work {name} gets {m} dollars, and {he} works {n} hours.",
                ),
                clause(
                    "days",
                    "n 2-7; m 10-60",
                    "t = n * m",
                    "{name} works {n} days and gets {m} dollars each day.",
                    "{name} gets {m} dollars a day and works for {n} days.",
                ),
            ),
            _MONEY,
            (_HAS, _NEEDS),
        ),
    ),
    Template(
        "savings",
        NOTHING,
        (
            (
                clause(
                    "have",
                    "n 40-200",
                    "t = n",
                    "{name} has {n} dollars in the bank.",
                    "At the start of the month {name} has {n} dollars.",
                ),
            ),
            (
                clause(
                    "weeks",
                    "n 3-10; m 5-25",
                    "p = n * m; t = t + p",
                    "{He} saves {m} dollars every week for {n} weeks.",
                    "For {n} weeks {he} saves {m} dollars a week.",
                ),
                _GIFT,
            ),
            (_SPEND, _BUY, _HALF),
            (_HAS, _NEEDS),
        ),
    ),
    Template(
        "two_jobs",
        NOTHING,
        (
            (
                clause(
                    "first",
                    "n 3-9; m 6-20",
                    "a = n * m",
                    "{name} works {n} hours in a shop for {m} dollars an hour.",
                    "In a shop {name} gets {m} dollars an hour and works {n} hours.",
                ),
            ),
            (
                clause(
                    "second",
                    "n 2-9; m 6-20",
                    "b = n * m; t = a + b",
                    "{He} also works {n} hours on a farm for {m} dollars an hour.",
                    "On a farm {he} works {n} hours and gets {m} dollars an hour.",
                ),
            ),
            (
                clause(
                    "sum",
                    "",
                    "",
                    "How many dollars does {name} get in all?",
                    "How many dollars does {name} make?",
                ),
                clause(
                    "weeks",
                    "n 2-5",
                    "t = t * n",
                    "{He} does the same for {n} weeks. How many dollars does {he} make in all?",
                    "How many dollars does {he} make if {he} does this for {n} weeks?",
                ),
                clause(
                    "less",
                    "n 10-60",
                    "t = t - n",
                    "{He} spends {n} dollars on food. How many dollars are left?",
                    "Then {he} pays {n} dollars for a ticket. How many dollars does {he} have now?",
                ),
            ),
        ),
    ),
    Template(
        "overtime",
        NOTHING,
        (
            (
                clause(
                    "rate",
                    "n 20-40/5; m 8-20",
                    "a = n * m; r = m",
                    "In one week {name} works {n} hours for {m} dollars an hour.",
                    "{name} gets {m} dollars an hour and works {n} hours a week.",
                ),
            ),
            (
                clause(
                    "twice",
                    "n 2-9",
                    "d = r * 2; p = d * n; t = a + p",
                    "Then {he} works {n} more hours and gets twice as much for each hour.",
                    "On Sunday {he} works {n} more hours, and each hour pays twice as much.",
                ),
                clause(
                    "raise",
                    "n 2-9; m 2-6",
                    "d = r + m; p = d * n; t = a + p",
                    "Then {he} works {n} more hours and gets {m} dollars more for each hour.",
                    "On Sunday {he} works {n} more hours, and each hour pays {m} dollars more.",
                ),
            ),
            (
                clause(
                    "pay",
                    "",
                    "",
                    "How many dollars does {name} get in all?",
                    "How many dollars does {name} make in the week?",
                ),
            ),
        ),
    ),
    Template(
        "factory",
        TOYS + CLOTHES,
        (
            (
                clause(
                    "machines",
                    "n 3-12; m 4-20",
                    "t = n * m",
                    "A shop has {n} workers, and each worker makes {m} {items} a day.",
                    "Each of {n} workers makes {m} {items} every day.",
                ),
            ),
            (
                clause(
                    "days",
                    "n 2-7",
                    "t = t * n",
                    "They work for {n} days.",
                    "They do this on {n} days.",
                ),
                clause(
                    "week",
                    "",
                    "t = t * 7",
                    "They work for a week.",
                    "They do so every day of a week.",
                ),
            ),
            (
                clause(
                    "broken",
                    "n 4-40",
                    "t = t - n",
                    "Then {n} of the {items} are lost.",
                    "{n} of the {items} are too small to sell.",
                ),
                clause(
                    "double",
                    "",
                    "t = t * 2",
                    "Then new workers double the number of {items}.",
                    "New workers make as many {items} again, so the number doubles.",
                ),
            ),
            (
                clause(
                    "left",
                    "",
                    "",
                    "How many {items} are there in the end?",
                    "How many {items} can the shop sell?",
                ),
            ),
        ),
    ),
    Template(
        "reading",
        NOTHING,
        (
            (
                clause(
                    "daily",
                    "n 10-40; m 3-9",
                    "t = n * m",
                    "{name} reads {n} pages of a book every day for {m} days.",
                    "For {m} days {name} reads {n} pages of a book each day.",
                ),
                clause(
                    "twice",
                    "n 10-60",
                    "p = n * 2; t = n + p",
                    "{name} reads {n} pages on Monday and twice as many pages on Friday.",
                    "On Monday {name} reads {n} pages, and on Friday {he} reads twice as many.",
                ),
                clause(
                    "half",
                    "n 10-60/2",
                    "p = n / 2; t = n + p",
                    "{name} reads {n} pages on Monday and half as many pages on Friday.",
                    "On Monday {name} reads {n} pages, and on Friday {he} reads half as many.",
                ),
            ),
            (
                clause(
                    "rest",
                    "n 200-500/10",
                    "t = n - t",
                    "The book has {n} pages.",
                    "There are {n} pages in the book.",
                ),
            ),
            (
                clause(
                    "left",
                    "",
                    "",
                    "How many pages are left to read?",
                    "How many pages does {name} still need to read?",
                ),
                clause(
                    "finish",
                    "n 2-9",
                    "t = t / n",
                    "{He} reads the rest in {n} days. How many pages does {he} read each day?",
                    "How many pages a day must {he} read to end the book in {n} days?",
                ),
            ),
        ),
    ),
    Template(
        "knitting",
        CLOTHES,
        (
            (
                clause(
                    "time",
                    "n 2-9; m 3-12",
                    "t = n * m",
                    "{name} makes {m} {items}, and each {item} takes {n} hours.",
                    "It takes {name} {n} hours to make one {item}, and {he} makes {m} {items}.",
                ),
            ),
            (
                clause(
                    "other",
                    "n 2-9; m 2-9",
                    "p = n * m; t = t + p",
                    "{He} also makes {n} bags, and each bag takes {m} hours.",
                    "Then {he} makes {n} bags in {m} hours each.",
                ),
                clause(
                    "clean",
                    "n 2-9",
                    "t = t + n",
                    "Then {he} needs {n} more hours to clean the room.",
                    "{He} also works {n} hours in the garden.",
                ),
            ),
            (
                clause(
                    "hours",
                    "",
                    "",
                    "How many hours does {name} work in all?",
                    "How many hours does all the work take?",
                ),
                clause(
                    "perday",
                    "n 2-6",
                    "t = t / n",
                    "{He} works {n} hours a day. How many days does {he} need?",
                    "How many days does {he} need at {n} hours a day?",
                ),
            ),
        ),
    ),
    Template(
        "eggs",
        NOTHING,
        (
            (
                clause(
                    "lay",
                    "n 5-20; m 2-6",
                    "t = n * m",
                    "{name} has {n} hens, and each hen lays {m} eggs a week.",
                    "Each of the {n} hens of {name} lays {m} eggs every week.",
                ),
            ),
            (
                clause(
                    "eat",
                    "n 3-15",
                    "t = t - n",
                    "The family eats {n} eggs.",
                    "{He} keeps {n} eggs for the family.",
                ),
                clause(
                    "bake",
                    "n 2-4; m 2-6",
                    "p = n * m; t = t - p",
                    "{He} bakes {n} cakes with {m} eggs each.",
                    "{He} uses {m} eggs for each of {n} cakes.",
                ),
            ),
            (
                clause(
                    "price",
                    "n 2-5",
                    "t = t * n",
                    "{He} sells the rest for {n} dollars each. How many dollars does {he} get?",
                    "At the market every other egg costs {n} dollars. "
                    "How many dollars does {he} get?",
                ),
                clause(
                    "cartons",
                    "n 4-12",
                    "t = t / n",
                    "{He} puts {n} eggs in each box. How many boxes does {he} fill?",
                    "Each box holds {n} eggs. How many boxes can {he} fill with the rest?",
                ),
            ),
        ),
    ),
    Template(
        "homework",
        NOTHING,
        (
            (
                clause(
                    "tasks",
                    "n 4-20; m 2-9",
                    "t = n * m",
                    "{name} has {n} pages of homework, and each page takes {m} minutes.",
                    "Each of {n} pages of homework takes {name} {m} minutes.",
                ),
            ),
            (
                clause(
                    "breaks",
                    "n 2-5; m 5-15",
                    "p = n * m; t = t + p",
                    "{He} also rests {n} times for {m} minutes each.",
                    "Then {he} plays {n} games of {m} minutes each.",
                ),
                clause(
                    "read",
                    "n 10-40",
                    "t = t + n",
                    "Then {he} reads for {n} minutes.",
                    "{He} also plays a game for {n} minutes.",
                ),
            ),
            (
                clause(
                    "minutes",
                    "",
                    "",
                    "How many minutes does all of this take?",
                    "How many minutes does {name} need in all?",
                ),
                clause(
                    "free",
                    "n 200-400/10",
                    "t = n - t",
                    "{He} has {n} minutes. How many minutes are left?",
                    "How many of {n} minutes does {he} have left?",
                ),
            ),
        ),
    ),
    Template(
        "painting",
        NOTHING,
        (
            (
                clause(
                    "rooms",
                    "n 3-9; m 4-12",
                    "t = n * m",
                    "{name} paints {n} rooms, and each room needs {m} liters of paint.",
                    "A house has {n} rooms, and {name} needs {m} liters of paint for each room.",
                ),
            ),
            (
                clause(
                    "stock",
                    "n 5-20",
                    "t = t - n",
                    "{He} has {n} liters of paint at home.",
                    "{other} gives {him} {n} liters of paint.",
                ),
                clause(
                    "extra",
                    "n 5-20",
                    "t = t + n",
                    "The door and the roof need {n} more liters.",
                    "{He} also needs {n} liters for the door.",
                ),
            ),
            (
                clause(
                    "cost",
                    "n 3-9",
                    "t = t * n",
                    "One liter costs {n} dollars. How many dollars must {he} pay for the paint?",
                    "Paint costs {n} dollars a liter. How many dollars must {name} pay?",
                ),
                clause(
                    "cans",
                    "n 2-6",
                    "t = t / n",
                    "Paint is sold in cans of {n} liters. How many cans must {he} buy?",
                    "One can holds {n} liters. How many cans does {he} need to buy?",
                ),
            ),
        ),
    ),
    Template(
        "packing",
        GOODS + BAKED,
        (
            (
                clause(
                    "stock",
                    "n 3-12; m 4-20",
                    "t = n * m",
                    "{name} packs {n} boxes in an hour, and each box holds {m} {items}.",
                    "In one hour {name} fills {n} boxes with {m} {items} each.",
                ),
            ),
            (
                clause(
                    "hours",
                    "n 2-8",
                    "t = t * n",
                    "{He} works for {n} hours.",
                    "{He} does this for {n} hours.",
                ),
            ),
            (
                clause(
                    "team",
                    "n 20-90",
                    "t = t + n",
                    "{other} packs {n} {items}. How many {items} do they pack in all?",
                    "Then {other} packs {n} more {items}. How many {items} is that in all?",
                ),
                clause(
                    "goal",
                    "n 20-90",
                    "t = t - n",
                    "Then {he} takes {n} {items} out again. How many {items} are still packed?",
                    "{n} of the {items} are for {other}. How many {items} are left?",
                ),
            ),
        ),
    ),
    Template(
        "school_supplies",
        SCHOOL,
        (
            (
                clause(
                    "classes",
                    "n 2-6; m 10-30",
                    "t = n * m",
                    "A school has {n} classes with {m} children in each class.",
                    "There are {n} classes in a school, and each class has {m} children.",
                ),
            ),
            (
                clause(
                    "absent",
                    "n 3-15",
                    "t = t - n",
                    "Today {n} children are at home.",
                    "{n} children do not come today.",
                ),
                clause(
                    "new",
                    "n 3-15",
                    "t = t + n",
                    "Today {n} new children come.",
                    "Then {n} more children come to the school.",
                ),
            ),
            (
                clause(
                    "each",
                    "n 2-6",
                    "t = t * n",
                    "Every child gets {n} {items}. How many {items} does the school need?",
                    "The school gives {n} {items} to each child. How many {items} is that in all?",
                ),
                clause(
                    "groups",
                    "n 2-6",
                    "t = t / n",
                    "They work in groups of {n}, and each group gets one {item}. "
                    "How many {items} are needed?",
                    "For every {n} children there is one {item}. How many {items} are there?",
                ),
            ),
        ),
    ),
)

"""Scenarios that no training problem uses, told in words that training problems use."""

from __future__ import annotations

from typing import Final

from astuner_envs.gsm8k.problems.clauses import Template, clause
from astuner_envs.gsm8k.problems.words import BAKED, CLOTHES, FRUITS, NOTHING, SCHOOL, TOYS

TEMPLATES: Final = (
    Template(
        "lunch_money",
        FRUITS,
        (
            (
                clause(
                    "week",
                    "n 20-90",
                    "t = n",
                    "The family gives {name} {n} dollars for lunch.",
                    "{name} has {n} dollars for lunch.",
                ),
            ),
            (
                clause(
                    "lunch",
                    "n 2-6; m 3-6",
                    "p = n * m; t = t - p",
                    "On each of {m} days {he} spends {n} dollars on {items}.",
                    "{He} buys {items} for {n} dollars every day for {m} days.",
                ),
            ),
            (
                clause(
                    "left",
                    "n 2-9",
                    "t = t - n",
                    "{He} loses {n} dollars on the way home. How many dollars are left?",
                    "Then {he} gives {n} dollars to {other}. How many dollars does {he} have now?",
                ),
            ),
        ),
    ),
    Template(
        "bread_milk",
        NOTHING,
        (
            (
                clause(
                    "cows",
                    "n 3-15; m 4-12",
                    "t = n * m",
                    "Each of the {n} cows on a farm gives {m} liters of milk a day.",
                    "{name} has {n} cows, and each cow gives {m} liters of milk every day.",
                ),
            ),
            (
                clause(
                    "drink",
                    "n 2-20",
                    "t = t - n",
                    "The family keeps {n} liters.",
                    "{n} liters are for the family.",
                ),
            ),
            (
                clause(
                    "sell",
                    "n 2-6",
                    "t = t * n",
                    "{name} sells the rest for {n} dollars a liter. "
                    "How many dollars does {he} get?",
                    "The rest is sold at {n} dollars a liter. How many dollars does {name} get?",
                ),
            ),
        ),
    ),
    Template(
        "team_shirts",
        CLOTHES,
        (
            (
                clause(
                    "teams",
                    "n 2-9; m 4-12",
                    "t = n * m",
                    "In a school there are {n} teams of {m} children.",
                    "{n} teams play a game, and each team has {m} children.",
                ),
            ),
            (
                clause(
                    "shirts",
                    "n 2-4",
                    "t = t * n",
                    "Every child needs {n} {items}.",
                    "The school buys {n} {items} for each child.",
                ),
            ),
            (
                clause(
                    "stock",
                    "n 5-20",
                    "t = t - n",
                    "There are {n} old {items} in a box. How many new {items} must the school buy?",
                    "{other} brings {n} {items} from home. How many {items} are still needed?",
                ),
            ),
        ),
    ),
    Template(
        "hike",
        NOTHING,
        (
            (
                clause(
                    "days",
                    "n 3-12; m 2-6",
                    "t = n * m",
                    "On a trip to a lake {name} walks {n} miles a day for {m} days.",
                    "{name} goes on a trip to a lake for {m} days and walks {n} miles each day.",
                ),
            ),
            (
                clause(
                    "last",
                    "",
                    "p = t / 2; t = t + p",
                    "On the last day {he} takes a train for half as many miles.",
                    "Then a bus takes {him} half as many miles.",
                ),
                clause(
                    "rain",
                    "n 2-9",
                    "t = t + n",
                    "On the last day {he} goes {n} more miles on a bike.",
                    "Then a train takes {him} {n} more miles.",
                ),
            ),
            (
                clause(
                    "all",
                    "",
                    "",
                    "How many miles long is the whole trip?",
                    "How many miles does {name} go on the trip?",
                ),
            ),
        ),
    ),
    Template(
        "toy_shelf_colors",
        TOYS,
        (
            (
                clause(
                    "all",
                    "n 60-200/10",
                    "t = n",
                    "There are {n} {items} in a bag.",
                    "A bag holds {n} {items}.",
                ),
            ),
            (
                clause(
                    "red",
                    "n 5-25",
                    "t = t - n; r = n",
                    "{n} of them are red.",
                    "{name} finds that {n} of the {items} are red.",
                ),
            ),
            (
                clause(
                    "blue",
                    "",
                    "b = r * 2; t = t - b",
                    "There are twice as many blue {items}, and the rest are green.",
                    "The number of blue {items} is two times that, and the rest are green.",
                ),
                clause(
                    "blue_more",
                    "n 2-15",
                    "b = r + n; t = t - b",
                    "There are {n} more blue {items} than red {items}, and the rest are green.",
                    "The number of blue {items} is higher by {n}, and the rest are green.",
                ),
            ),
            (
                clause(
                    "green",
                    "",
                    "",
                    "How many green {items} are there?",
                    "How many {items} are green?",
                ),
            ),
        ),
    ),
    Template(
        "book_club",
        NOTHING,
        (
            (
                clause(
                    "pages",
                    "n 2-6; m 60-200/10",
                    "t = n * m",
                    "{name} wants to read {n} books of {m} pages each.",
                    "{name} has {n} new books, and each book has {m} pages.",
                ),
            ),
            (
                clause(
                    "read",
                    "n 20-90",
                    "t = t - n",
                    "In the first week {he} reads {n} pages.",
                    "{He} reads {n} pages before the trip.",
                ),
            ),
            (
                clause(
                    "days",
                    "n 5-30/5",
                    "t = t / n",
                    "Then {he} reads {n} pages a day. How many days does {he} need for the rest?",
                    "How many more days does {he} need if {he} reads {n} pages each day?",
                ),
            ),
        ),
    ),
    Template(
        "cake_sale",
        BAKED,
        (
            (
                clause(
                    "classes",
                    "n 2-6; m 8-20",
                    "t = n * m",
                    "For a school party {n} classes bake {m} {items} each.",
                    "Each of {n} classes brings {m} {items} to the school party.",
                ),
            ),
            (
                clause(
                    "eaten",
                    "n 5-30",
                    "t = t - n",
                    "The children eat {n} {items} before the start.",
                    "{name} eats or loses {n} of the {items} on the way.",
                ),
            ),
            (
                clause(
                    "price",
                    "n 2-4; m 10-40",
                    "p = t * n; t = p + m",
                    "The other {items} are all sold for {n} dollars each, and {name} adds {m} "
                    "dollars. How many dollars does the school get?",
                    "The rest are sold at {n} dollars each, and people give {m} dollars more. "
                    "How many dollars does the school get in all?",
                ),
            ),
        ),
    ),
    Template(
        "rent_a_bike",
        NOTHING,
        (
            (
                clause(
                    "rent",
                    "n 10-40; m 3-12",
                    "t = n; r = m",
                    "A bike costs {n} dollars for the first day and {m} dollars for each day more.",
                    "The first day with a bike costs {n} dollars, and each day after it costs {m}.",
                ),
            ),
            (
                clause(
                    "days",
                    "n 3-12",
                    "d = n - 1; p = r * d; t = t + p",
                    "{name} takes a bike for {n} days in all.",
                    "{name} keeps the bike for {n} days.",
                ),
            ),
            (
                clause(
                    "cost",
                    "",
                    "",
                    "How many dollars does {he} pay?",
                    "How many dollars does this cost?",
                ),
            ),
        ),
    ),
    Template(
        "pencil_case",
        SCHOOL,
        (
            (
                clause(
                    "start",
                    "n 2-9; m 3-12",
                    "a = n * m",
                    "{name} has {n} bags with {m} {items} in each.",
                    "There are {m} {items} in each of the {n} bags of {name}.",
                ),
            ),
            (
                clause(
                    "other",
                    "n 2-6",
                    "b = a * n",
                    "{other} has {n} times as many {items}.",
                    "{other} has {n} times the number of {items}.",
                ),
            ),
            (
                clause(
                    "gap",
                    "",
                    "t = b - a",
                    "How many more {items} does {other} have than {name}?",
                    "How many {items} does {name} need to have as many as {other}?",
                ),
                clause(
                    "gap_after",
                    "n 2-9",
                    "c = b - n; t = c - a",
                    "Then {other} loses {n} {items}. "
                    "How many more {items} than {name} does {other} have now?",
                    "{other} gives {n} of them to the school. "
                    "How many more {items} than {name} does {other} have now?",
                ),
            ),
        ),
    ),
)

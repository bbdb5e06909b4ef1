"""Scenarios of distance, time and fuel."""

from __future__ import annotations

from typing import Final

from astuner_envs.gsm8k.problems.clauses import Template, clause
from astuner_envs.gsm8k.problems.words import NOTHING

_MILES: Final = clause(
    "miles",
    "",
    "",
    "How many miles does {name} go in all?",
    "How many miles is that in all?",
)
_LEFT: Final = clause(
    "left",
    "n 200-900/50",
    "t = n - t",
    "The trip is {n} miles long. How many miles are left?",
    "The whole way is {n} miles. How many miles does {he} still have to go?",
)

TEMPLATES: Final = (
    Template(
        "drive",
        NOTHING,
        (
            (
                clause(
                    "morning",
                    "n 2-6; m 20-60/5",
                    "t = n * m",
                    "{name} drives for {n} hours and goes {m} miles each hour.",
                    "{name} drives {m} miles an hour for {n} hours.",
                ),
            ),
            (
                clause(
                    "evening",
                    "n 2-6; m 20-60/5",
                    "p = n * m; t = t + p",
                    "After lunch {he} drives {m} miles an hour for {n} more hours.",
                    "Then {he} goes {m} miles each hour for {n} hours.",
                ),
                clause(
                    "walk",
                    "n 2-15",
                    "t = t + n",
                    "After lunch {he} walks {n} miles.",
                    "Then {he} goes {n} more miles on a bus.",
                ),
                clause(
                    "back",
                    "",
                    "t = t * 2",
                    "After lunch {he} takes the same way back.",
                    "Then {he} goes back the same way.",
                ),
            ),
            (_MILES, _LEFT),
        ),
    ),
    Template(
        "running",
        NOTHING,
        (
            (
                clause(
                    "weekdays",
                    "n 2-9; m 2-6",
                    "t = n * m",
                    "{name} runs {n} miles a day on {m} days of the week.",
                    "On {m} days of each week {name} runs {n} miles a day.",
                ),
            ),
            (
                clause(
                    "sunday",
                    "n 3-15",
                    "t = t + n",
                    "On Sunday {he} walks {n} miles.",
                    "{He} also walks {n} miles on Sunday.",
                ),
                clause(
                    "bike",
                    "n 3-9; m 2-4",
                    "p = n * m; t = t + p",
                    "{He} also takes {m} trips of {n} miles on a bike.",
                    "On Sunday {he} goes on {m} bike trips of {n} miles each.",
                ),
            ),
            (
                clause(
                    "weeks",
                    "n 2-9",
                    "t = t * n",
                    "How many miles does {name} go in {n} weeks?",
                    "{He} does this for {n} weeks. How many miles is that in all?",
                ),
                clause(
                    "goal",
                    "n 50-100/10",
                    "t = n - t",
                    "{He} wants to go {n} miles in the week. How many miles are left?",
                    "How many of {n} miles does {he} still have to go in the week?",
                ),
            ),
        ),
    ),
    Template(
        "fuel",
        NOTHING,
        (
            (
                clause(
                    "use",
                    "n 100-600/20; m 20|25|10|30",
                    "t = n / m",
                    "{name} drives {n} miles, and the car goes {m} miles on one liter of gas.",
                    "A car goes {m} miles on a liter of gas, and {name} drives {n} miles.",
                ),
            ),
            (
                clause(
                    "extra",
                    "n 2-9",
                    "t = t + n",
                    "{He} also buys {n} liters for {other}.",
                    "{other} needs {n} more liters.",
                ),
                clause(
                    "return",
                    "",
                    "t = t * 2",
                    "Then {he} goes back the same way.",
                    "{He} drives the same way back.",
                ),
            ),
            (
                clause(
                    "cost",
                    "n 2-6",
                    "t = t * n",
                    "A liter of gas costs {n} dollars. How many dollars does {he} pay?",
                    "How many dollars does the gas cost at {n} dollars a liter?",
                ),
                clause(
                    "tank",
                    "n 40-90/5",
                    "t = n - t",
                    "The tank has {n} liters at the start. How many liters are left?",
                    "How many liters are left if {he} starts with {n} liters?",
                ),
            ),
        ),
    ),
    Template(
        "school_way",
        NOTHING,
        (
            (
                clause(
                    "day",
                    "n 2-12",
                    "t = n * 2",
                    "{name} walks {n} miles to school and {n} miles back each day.",
                    "The way to school is {n} miles, and {name} goes there and back every day.",
                ),
            ),
            (
                clause(
                    "days",
                    "n 3-20",
                    "t = t * n",
                    "{He} does this on {n} days.",
                    "There are {n} days of school in the month.",
                ),
            ),
            (
                clause(
                    "extra",
                    "n 3-20",
                    "t = t + n",
                    "{He} also walks {n} miles to the lake.",
                    "On a trip {he} walks {n} more miles.",
                ),
                clause(
                    "ride",
                    "n 3-20",
                    "t = t - n",
                    "{other} drives {him} for {n} of these miles.",
                    "For {n} of the miles {he} takes the bus.",
                ),
            ),
            (
                clause(
                    "walked",
                    "",
                    "",
                    "How many miles does {name} walk?",
                    "How many miles does {he} walk in all?",
                ),
            ),
        ),
    ),
    Template(
        "trip_time",
        NOTHING,
        (
            (
                clause(
                    "train",
                    "n 2-6",
                    "t = n * 60",
                    "A train takes {name} to the city in {n} hours.",
                    "{name} is on a train for {n} hours.",
                ),
            ),
            (
                clause(
                    "wait",
                    "n 10-50/5",
                    "t = t + n",
                    "Then {he} waits {n} minutes.",
                    "After that {he} rests for {n} minutes.",
                ),
            ),
            (
                clause(
                    "walk",
                    "n 5-50/5",
                    "t = t + n",
                    "In the end {he} walks for {n} minutes.",
                    "The bus home takes {n} more minutes.",
                ),
                clause(
                    "twice",
                    "",
                    "t = t * 2",
                    "The way back takes as many minutes as all of this.",
                    "{He} needs the same time to get back.",
                ),
            ),
            (
                clause(
                    "minutes",
                    "",
                    "",
                    "How many minutes does the trip take?",
                    "How many minutes is that in all?",
                ),
            ),
        ),
    ),
    Template(
        "average_trip",
        NOTHING,
        (
            (
                clause(
                    "first",
                    "n 20-90",
                    "a = n",
                    "{name} drives {n} miles on Monday.",
                    "On Monday {name} goes {n} miles.",
                ),
            ),
            (
                clause(
                    "more",
                    "n 5-40",
                    "b = a + n; t = a + b",
                    "On Friday {he} drives {n} miles more than on Monday.",
                    "On Friday {he} goes {n} more miles than on Monday.",
                ),
                clause(
                    "fewer",
                    "n 5-40",
                    "b = a - n; t = a + b",
                    "On Friday {he} drives {n} miles less than on Monday.",
                    "On Friday {he} goes {n} miles less than on Monday.",
                ),
                clause(
                    "twice",
                    "",
                    "b = a * 2; t = a + b",
                    "On Friday {he} drives twice as many miles.",
                    "On Friday {he} goes twice as many miles as on Monday.",
                ),
            ),
            (
                _MILES,
                clause(
                    "speed",
                    "n 2-9",
                    "t = t / n",
                    "{He} drives {n} hours in all. How many miles does {he} go in an hour?",
                    "How many miles does {he} go each hour if {he} drives {n} hours?",
                ),
            ),
        ),
    ),
)

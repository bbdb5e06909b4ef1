"""Scenarios of prices, purchases, change and profit."""

from __future__ import annotations

from typing import Final

from astuner_envs.gsm8k.problems.clauses import Template, clause
from astuner_envs.gsm8k.problems.words import (
    BAKED,
    CLOTHES,
    FRUITS,
    GOODS,
    NOTHING,
    PLANTS,
    SCHOOL,
    TOYS,
)

_CHANGE: Final = clause(
    "change",
    "n 50-300/10",
    "t = n - t",
    "{name} pays with {n} dollars. How many dollars does {he} get back?",
    "{He} has {n} dollars. How many dollars are left after {he} pays?",
)
_TOTAL: Final = clause(
    "total",
    "",
    "",
    "How many dollars does {name} pay in all?",
    "How many dollars does {name} spend?",
)
_SPLIT: Final = clause(
    "split",
    "n 2-6",
    "t = t / n",
    "{n} friends share the cost equally. How many dollars does each friend pay?",
    "The cost is shared equally by {n} people. How many dollars does each person pay?",
)
_PAYMENTS: Final = (_TOTAL, _CHANGE, _SPLIT)

_COUPON: Final = clause(
    "coupon",
    "n 2-15",
    "t = t - n",
    "A coupon takes {n} dollars off the price.",
    "{He} has a coupon for {n} dollars off.",
)
_FEE: Final = clause(
    "fee",
    "n 2-15",
    "t = t + n",
    "There is a fee of {n} dollars.",
    "{He} also pays {n} dollars to get them home.",
)
_OFF: Final = clause(
    "off",
    "",
    "t = t / 2",
    "Today all prices are cut in half.",
    "Today {he} pays only half of the price.",
)
_EXTRAS: Final = (_COUPON, _FEE, _OFF)

TEMPLATES: Final = (
    Template(
        "purchase",
        GOODS,
        (
            (
                clause(
                    "buy",
                    "n 3-12; m 4-20",
                    "t = n * m",
                    "{name} buys {n} {items} for {m} dollars each.",
                    "{name} wants {n} {items}, and one {item} costs {m} dollars.",
                    "In a shop each {item} costs {m} dollars, and {name} buys {n} of them.",
                ),
            ),
            _EXTRAS,
            _PAYMENTS,
        ),
    ),
    Template(
        "two_purchases",
        CLOTHES,
        (
            (
                clause(
                    "first",
                    "n 2-9; m 4-20",
                    "t = n * m",
                    "{name} buys {n} {items} for {m} dollars each.",
                    "{name} takes {n} {items} that cost {m} dollars each.",
                ),
            ),
            (
                clause(
                    "second",
                    "n 2-9; m 3-15",
                    "p = n * m; t = t + p",
                    "{He} also buys {n} bags for {m} dollars each.",
                    "Then {he} takes {n} bags that cost {m} dollars each.",
                ),
                clause(
                    "single",
                    "n 10-60",
                    "t = t + n",
                    "{He} also buys one bag for {n} dollars.",
                    "Then {he} takes one bag that costs {n} dollars.",
                ),
            ),
            _PAYMENTS,
        ),
    ),
    Template(
        "three_purchases",
        FRUITS,
        (
            (
                clause(
                    "first",
                    "n 2-9; m 2-9",
                    "a = n * m",
                    "{name} buys {n} bags of {items} for {m} dollars a bag.",
                    "A bag of {items} costs {m} dollars, and {name} buys {n} bags.",
                ),
            ),
            (
                clause(
                    "second",
                    "n 2-9; m 2-12",
                    "b = n * m; t = a + b",
                    "{He} buys {n} cans of milk for {m} dollars each.",
                    "{He} also takes {n} cans of milk at {m} dollars each.",
                ),
            ),
            (
                clause(
                    "third",
                    "n 3-20",
                    "t = t + n",
                    "The bread costs {n} dollars.",
                    "{He} also pays {n} dollars for bread.",
                ),
                _COUPON,
            ),
            _PAYMENTS,
        ),
    ),
    Template(
        "price_times",
        CLOTHES + SCHOOL,
        (
            (
                clause(
                    "price",
                    "n 3-30",
                    "a = n",
                    "In a shop one {item} costs {n} dollars.",
                    "The price of one {item} is {n} dollars.",
                ),
            ),
            (
                clause(
                    "times",
                    "n 2-5",
                    "b = a * n; t = a + b",
                    "One bag costs {n} times as much as one {item}.",
                    "The price of a bag is {n} times the price of one {item}.",
                ),
                clause(
                    "more",
                    "n 5-40",
                    "b = a + n; t = a + b",
                    "One bag costs {n} dollars more than one {item}.",
                    "The price of a bag is {n} dollars higher.",
                ),
            ),
            (
                clause(
                    "both",
                    "",
                    "",
                    "{name} buys one {item} and one bag. How many dollars does {he} pay in all?",
                    "How many dollars does {name} pay for one {item} and one bag?",
                ),
                clause(
                    "sets",
                    "n 2-6",
                    "t = t * n",
                    "{name} buys {n} {items} and {n} bags. How many dollars does {he} pay in all?",
                    "How many dollars does {name} pay for {n} {items} and {n} bags?",
                ),
            ),
        ),
    ),
    Template(
        "profit",
        TOYS + PLANTS,
        (
            (
                clause(
                    "make",
                    "n 5-30; m 2-9",
                    "c = n * m; k = n",
                    "{name} buys {n} {items} for {m} dollars each.",
                    "To fill a small shop {name} buys {n} {items} at {m} dollars each.",
                ),
            ),
            (
                clause(
                    "sell",
                    "n 8-20",
                    "r = k * n; t = r - c",
                    "{He} sells all of them for {n} dollars each.",
                    "Later {he} sells every {item} for {n} dollars.",
                ),
            ),
            (
                clause(
                    "profit",
                    "",
                    "",
                    "How many dollars of profit does {name} make?",
                    "What is the profit of {name} in dollars?",
                ),
                clause(
                    "rent",
                    "n 2-20",
                    "t = t - n",
                    "The table in the market costs {n} dollars. How many dollars of profit does "
                    "{he} make?",
                    "{He} also pays {n} dollars for a table. What is the profit in dollars?",
                ),
            ),
        ),
    ),
    Template(
        "market_stand",
        BAKED + FRUITS,
        (
            (
                clause(
                    "sales",
                    "n 6-40; m 2-6",
                    "t = n * m",
                    "At the market {name} sells {n} {items} for {m} dollars each.",
                    "{name} sells {n} {items} at the market, and each costs {m} dollars.",
                ),
            ),
            (
                clause(
                    "drinks",
                    "n 4-20; m 2-5",
                    "p = n * m; t = t + p",
                    "{He} also sells {n} cups of milk for {m} dollars each.",
                    "People buy {n} cups of milk from {him} at {m} dollars each.",
                ),
                clause(
                    "tips",
                    "n 3-25",
                    "t = t + n",
                    "People give {him} {n} dollars in tips.",
                    "{He} also gets {n} dollars in tips.",
                ),
            ),
            (
                clause(
                    "costs",
                    "n 10-40",
                    "t = t - n",
                    "{He} pays {n} dollars for the table. How many dollars does {he} keep?",
                    "The table costs {n} dollars. How many dollars are left for {name}?",
                ),
                clause(
                    "income",
                    "",
                    "",
                    "How many dollars does {name} get in all?",
                    "How many dollars does {name} take home?",
                ),
            ),
        ),
    ),
    Template(
        "percent_off",
        CLOTHES,
        (
            (
                clause(
                    "count",
                    "n 2-6; m 10-60/10",
                    "t = n * m",
                    "{name} buys {n} {items} that cost {m} dollars each.",
                    "The price of each {item} is {m} dollars, and {name} buys {n} {items}.",
                ),
            ),
            (
                clause(
                    "percent",
                    "n 10|20|25|50",
                    "p = t * n; q = p / 100; t = t - q",
                    "The shop takes {n} percent off the price.",
                    "Today all prices are {n} percent lower.",
                ),
            ),
            (
                clause(
                    "pay",
                    "",
                    "",
                    "How many dollars does {name} pay?",
                    "How many dollars does {name} spend in the shop?",
                ),
            ),
        ),
    ),
    Template(
        "dozens",
        BAKED,
        (
            (
                clause(
                    "dozens",
                    "n 2-9",
                    "a = n * 12",
                    "{name} bakes {n} dozen {items}.",
                    "There are {n} dozen {items} in the shop of {name}.",
                ),
            ),
            (
                clause(
                    "keep",
                    "n 3-20",
                    "t = a - n",
                    "{He} keeps {n} of them for the family.",
                    "{n} of them are too dark to sell.",
                ),
                clause(
                    "add",
                    "n 3-20",
                    "t = a + n",
                    "Then {he} makes {n} more {items}.",
                    "{other} brings {n} more {items}.",
                ),
            ),
            (
                clause(
                    "sell",
                    "n 2-6",
                    "t = t * n",
                    "{He} sells the rest for {n} dollars each. How many dollars does {he} get?",
                    "Then {he} sells them all at {n} dollars each. How many dollars does {he} get?",
                ),
                clause(
                    "pack",
                    "n 2-6",
                    "t = t / n",
                    "{He} puts {n} {items} in each box. How many boxes does {he} need?",
                    "Each box holds {n} {items}. How many boxes can {name} fill?",
                ),
            ),
        ),
    ),
    Template(
        "cheaper_shop",
        SCHOOL,
        (
            (
                clause(
                    "here",
                    "n 8-20; m 4-15",
                    "k = m; a = n * m",
                    "{name} needs {m} {items}. In the first shop each {item} costs {n} dollars.",
                    "One {item} costs {n} dollars in the first shop, and {name} needs {m} {items}.",
                ),
            ),
            (
                clause(
                    "there",
                    "n 3-15",
                    "b = k * n; t = a - b",
                    "In the second shop each {item} costs {n} dollars.",
                    "The second shop sells one {item} for {n} dollars.",
                ),
            ),
            (
                clause(
                    "save",
                    "",
                    "",
                    "How many dollars does {name} save in the second shop?",
                    "How many dollars can {name} save?",
                ),
            ),
        ),
    ),
    Template(
        "tickets",
        NOTHING,
        (
            (
                clause(
                    "adults",
                    "n 2-9; m 6-20",
                    "a = n * m",
                    "{n} adults go to a show and pay {m} dollars each.",
                    "A ticket for a show costs {m} dollars for adults, and {n} adults come.",
                ),
            ),
            (
                clause(
                    "children",
                    "n 3-20; m 2-9",
                    "b = n * m; t = a + b",
                    "{n} children come too and pay {m} dollars each.",
                    "A ticket for a child costs {m} dollars, and {n} children come.",
                ),
            ),
            (
                _CHANGE,
                _SPLIT,
                clause(
                    "sum",
                    "",
                    "",
                    "How many dollars do they pay in all?",
                    "How many dollars do all the tickets cost?",
                ),
            ),
        ),
    ),
    Template(
        "refund",
        GOODS,
        (
            (
                clause(
                    "buy",
                    "n 6-15; m 4-15",
                    "k = m; t = n * m",
                    "{name} buys {n} {items} for {m} dollars each.",
                    "{name} pays {m} dollars each for {n} {items}.",
                ),
            ),
            (
                clause(
                    "return",
                    "n 2-5",
                    "p = n * k; t = t - p",
                    "{He} brings {n} of them back and gets the price back.",
                    "The next day {he} takes {n} {items} back to the shop and gets the dollars "
                    "back.",
                ),
            ),
            (_COUPON, _FEE),
            (_TOTAL,),
        ),
    ),
)

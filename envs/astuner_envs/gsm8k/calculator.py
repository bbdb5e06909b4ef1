"""A calculator for untrusted arithmetic: own tokeniser and parser, exact fractions, hard limits.

Grammar (the binding order of Python)::

    sum      = product {("+" | "-") product}
    product  = unary {("*" | "x" | "×" | "/" | "÷" | "//" | "%") unary}
    unary    = ("-" | "+") unary | power
    power    = percent ["**" unary]
    percent  = atom {"%"}                        # not before a number or "(": there it is modulo
    atom     = number | "(" sum ")"
    number   = digits, thousands commas and one decimal point: 12, 1,080, 3.5, .5

So ``-2**2`` is -4, ``2**3**2`` is 512, ``50%`` is 0.5, ``7 % 4`` is 3 and ``200 * 5%`` is 10.

The text is never evaluated by Python. Three limits make each call short whatever the text is: its
length, the depth of the parse, and the size of every number on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import Final

MAX_LENGTH: Final = 500
"""Characters in an expression."""
MAX_DEPTH: Final = 50
"""Open parentheses, signs and powers at one place."""
MAX_MAGNITUDE: Final = 10**15
"""Absolute value of any number on the way, the result included."""
MAX_DENOMINATOR: Final = 10**30
"""Denominator of any fraction on the way: it bounds the cost of exactness."""
DECIMALS: Final = 6
"""Digits kept behind the point, or behind the leading zeros of a number below one."""

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
    r"|(?P<symbol>\*\*|//|[-+*/%()x×÷−]))",
    re.ASCII,
)
_SPELLINGS: Final = {"x": "*", "×": "*", "÷": "/", "−": "-"}
_SHOWN: Final = 40


class CalculatorError(ValueError):
    """An expression was refused; the message says the rule, the text (shortened) and the remedy."""


def evaluate(expression: str) -> str:
    """The value of `expression` as text: an integer, or a decimal rounded to `DECIMALS` digits.

    >>> evaluate("12*3"), evaluate("1,080 ÷ 4"), evaluate("1/3")
    ('36', '270', '0.333333')

    Raises:
        CalculatorError: for text outside the grammar, division by zero, or a passed limit.
    """
    if len(expression) > MAX_LENGTH:
        raise _error(
            f"an expression has at most {MAX_LENGTH} characters",
            expression,
            "split it into smaller steps",
        )
    return _printed(_Parser(expression).value())


def _error(rule: str, text: str, remedy: str) -> CalculatorError:
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return CalculatorError(f"{rule}, got {shown!r}; {remedy}")


def _tokens(expression: str) -> list[str]:
    """Numbers without their commas, and symbols in their one spelling; ends with an empty token."""
    tokens: list[str] = []
    text = expression.rstrip()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _error(
                "an expression holds numbers, + - * / // % ** and parentheses",
                text[position:].lstrip(),
                "write for example 12*3",
            )
        number, symbol = match["number"], match["symbol"]
        if number is None:
            tokens.append(_SPELLINGS.get(symbol, symbol))
        else:
            tokens.append(number.replace(",", ""))
        position = match.end()
    tokens.append("")
    return tokens


def _is_number(token: str) -> bool:
    return token[:1].isdigit() or token[:1] == "."


class _Parser:
    """Recursive descent over the tokens, computing as it goes; recursion is bounded by depth."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = _tokens(expression)
        self._next = 0

    def value(self) -> Fraction:
        result = self._sum(0)
        if self._peek():
            raise self._expected("an operator")
        return result

    def _peek(self) -> str:
        return self._tokens[self._next]

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def _expected(self, what: str) -> CalculatorError:
        found = self._peek() or "the end"
        return _error(
            f"expected {what} but found {found[:_SHOWN]}",
            self._expression,
            "write for example 12*3",
        )

    def _sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while self._peek() in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            value = self._bounded(value + sign * self._product(depth))
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._unary(depth)
        while (operation := _PRODUCTS.get(self._peek())) is not None:
            divides = self._take() != "*"
            right = self._unary(depth)
            if divides and right == 0:
                raise self._division_by_zero()
            value = self._bounded(operation(value, right))
        return value

    def _unary(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise _error(
                f"an expression nests at most {MAX_DEPTH} deep", self._expression, "nest it less"
            )
        if self._peek() in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            return sign * self._unary(depth + 1)
        return self._power(depth)

    def _power(self, depth: int) -> Fraction:
        base = self._percent(depth)
        if self._peek() != "**":
            return base
        self._take()
        exponent = self._unary(depth + 1)
        if exponent.denominator != 1:
            raise _error("an exponent is a whole number", self._expression, "use a whole exponent")
        if base == 0 and exponent < 0:
            raise self._division_by_zero()
        # The size is bounded before the power is computed: afterwards would be too late.
        bits = max(abs(base.numerator), base.denominator).bit_length() - 1
        if bits * abs(exponent) > MAX_DENOMINATOR.bit_length():
            raise self._too_large()
        if base in (0, 1, -1):  # one bit or none: any exponent passes the bound above
            return base ** int(exponent % 2) if base else Fraction(int(exponent == 0))
        return self._bounded(base ** int(exponent))

    def _percent(self, depth: int) -> Fraction:
        value = self._atom(depth)
        while self._peek() == "%" and not self._modulo():
            self._take()
            value = self._bounded(value / 100)
        return value

    def _modulo(self) -> bool:
        """Whether the percent sign ahead has a right operand: a number or a parenthesis."""
        following = self._tokens[self._next + 1]
        return _is_number(following) or following == "("

    def _atom(self, depth: int) -> Fraction:
        token = self._peek()
        if _is_number(token):
            self._take()
            return self._bounded(Fraction(token))
        if token != "(":
            raise self._expected("a number")
        self._take()
        value = self._sum(depth + 1)
        if self._peek() != ")":
            raise self._expected("a closing parenthesis")
        self._take()
        return value

    def _bounded(self, value: Fraction) -> Fraction:
        if abs(value) > MAX_MAGNITUDE or value.denominator > MAX_DENOMINATOR:
            raise self._too_large()
        return value

    def _too_large(self) -> CalculatorError:
        return _error(
            "every number is at most 10**15, with a denominator of at most 10**30",
            self._expression,
            "use smaller numbers",
        )

    def _division_by_zero(self) -> CalculatorError:
        return _error("the divisor is not zero", self._expression, "divide by another number")


_PRODUCTS: Final[dict[str, Callable[[Fraction, Fraction], Fraction]]] = {
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "//": lambda left, right: Fraction(left // right),
    "%": lambda left, right: left % right,
}


def _printed(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    whole_digits = len(str(abs(int(value)))) if abs(value) >= 1 else 0
    context = Context(prec=whole_digits + DECIMALS)
    rounded = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

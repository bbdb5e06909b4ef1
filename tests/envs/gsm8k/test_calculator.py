"""The calculator agrees with an independent oracle and refuses hostile text shortly."""

from __future__ import annotations

import ast
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_envs.gsm8k.calculator import MAX_DEPTH, MAX_LENGTH, CalculatorError, evaluate


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("12*3", "36"),
        (" 2 + 3 * 4 ", "14"),
        ("(2+3)*4", "20"),
        ("10-4-3", "3"),
        ("100/8/5", "2.5"),
        ("1,080/4", "270"),
        ("1,000,000+1", "1000001"),
        ("3 x 4", "12"),
        ("3×4÷6", "2"),
        ("7//2", "3"),
        ("-7//2", "-4"),
        ("7%4", "3"),
        ("7 % (2+2)", "3"),
        ("50%", "0.5"),
        ("200*5%", "10"),
        ("5% + 1", "1.05"),
        ("-5+8", "3"),
        ("10--33", "43"),
        ("5 − 8", "-3"),
        ("-2**2", "-4"),
        ("2**3**2", "512"),
        ("2**-2", "0.25"),
        ("(-1)**999999999", "-1"),
        ("0**0", "1"),
        ("0.1+0.2", "0.3"),
        (".5*4", "2"),
        ("1/3", "0.333333"),
        ("2/3", "0.666667"),
        ("100/3", "33.333333"),
        ("1/3000000", "0.000000333333"),
        ("1/3*3", "1"),
    ],
)
def test_value(expression: str, result: str) -> None:
    assert evaluate(expression) == result


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "   ",
        "1+",
        "*3",
        "(1+2",
        "1+2)",
        "()",
        "1 2",
        "1,08",
        "1,0800",
        "1/0",
        "1//0",
        "1%(0)",
        "0**-1",
        "2**0.5",
        "9**9**9",
        "9**9**-9",
        "10**16",
        "10**15*2",
        "9" * 400,
        "2**1000000",
        "(1/2)**1000000",
        "1/" + "/".join(["999999999999"] * 10),
        "__import__('os')",
        "open('/etc/passwd')",
        "a+1",
        "1=1",
        "1;2",
        "\x00",
        "１+１",
        "(" * 10**6 + "1" + ")" * 10**6,
        "(" * 200 + "1" + ")" * 200,
        "-" * 300 + "1",
        "2" + "**1" * 150,
        "1+" * 5_000_000 + "1",
    ],
    ids=lambda expression: expression[:12],
)
def test_refusal_is_short_and_names_a_remedy(expression: str) -> None:
    with pytest.raises(CalculatorError) as caught:
        evaluate(expression)
    message = str(caught.value)
    assert len(message) < 250
    assert ", got " in message
    assert "; " in message


def test_the_longest_and_the_deepest_expression_are_allowed() -> None:
    assert evaluate("1" + "+1" * ((MAX_LENGTH - 1) // 2)) == str((MAX_LENGTH - 1) // 2 + 1)
    assert evaluate("(" * MAX_DEPTH + "7" + ")" * MAX_DEPTH) == "7"
    with pytest.raises(CalculatorError, match="at most 50 deep"):
        evaluate("(" * (MAX_DEPTH + 1) + "7" + ")" * (MAX_DEPTH + 1))


def oracle(node: ast.expr) -> Fraction:
    """Python's own parser over exact fractions."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return Fraction(str(value))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -oracle(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = oracle(left), oracle(right)
            match operator:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
                case ast.FloorDiv():
                    return Fraction(a // b)
                case ast.Mod():
                    return a % b
                case ast.Pow() if b.denominator == 1:
                    power = a ** int(b)
                    assert isinstance(power, Fraction)
                    return power
    raise ArithmeticError


numbers = st.one_of(
    st.integers(0, 99).map(str),
    st.decimals("0", "9.9", places=1).map(str),
)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-{text}"),
        st.tuples(inner, st.sampled_from(["+", "-", " * ", "/", "//"]), inner).map("".join),
        # A sign after % makes it a percent sign, so a modulo has its operand in parentheses.
        st.tuples(inner, inner).map(lambda pair: f"{pair[0]} % ({pair[1]})"),
        st.tuples(inner, st.integers(0, 3)).map(lambda pair: f"{pair[0]}**{pair[1]}"),
    ),
    max_leaves=6,
)


@given(expressions)
def test_agrees_with_the_oracle(expression: str) -> None:
    try:
        expected = oracle(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ZeroDivisionError):  # Python refuses 007, the oracle 1/0
        return
    try:
        result = evaluate(expression)
    except CalculatorError as refusal:
        # The text is well formed and has a value, so only a limit may stand against it.
        assert "at most 10**15" in str(refusal)
        return
    assert abs(Fraction(result) - expected) <= Fraction(1, 2 * 10**6)
    if expected.denominator == 1:
        assert result == str(expected)


@given(st.fractions(-(10**6), 10**6))
def test_a_fraction_is_rounded_to_six_digits_and_never_to_zero(value: Fraction) -> None:
    try:
        printed = Fraction(evaluate(f"{value.numerator}/{value.denominator}"))
    except CalculatorError as refusal:
        assert "at most 10**15" in str(refusal)
        return
    assert abs(printed - value) <= Fraction(1, 2 * 10**6)
    assert (printed == 0) == (value == 0)


@given(st.text(max_size=60))
def test_any_text_gives_a_number_or_a_calculator_error(text: str) -> None:
    try:
        result = evaluate(text)
    except CalculatorError:
        return
    Decimal(result)


@given(st.text(alphabet="0123456789+-*/%().,x ", max_size=40))
def test_any_arithmetic_text_gives_a_number_or_a_calculator_error(text: str) -> None:
    try:
        result = evaluate(text)
    except CalculatorError:
        return
    Decimal(result)

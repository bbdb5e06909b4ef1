r"""The answer of a reply to a GSM8K problem, and whether it is the right one.

The rule, in the order in which it is applied:

1. **Thinking is removed**: `<think>…</think>`, all after a `<think>` that never closes, and all
   before a `</think>` that never opened.
2. **Statements are collected**: the content of each outermost `\boxed{…}` or `\fbox{…}`, and the
   text after each `####` up to the end of its line or the next `####`. If neither states a number,
   the text after each "answer is", "answer:" or "answer =" up to the end of its sentence.
3. **A statement is read as one number**, with what surrounds it: Markdown and LaTeX markup, a
   currency, `x =`, "the answer is", thousands separators, a sign, a unit (any text without digits),
   a full stop. `**$1,080.00**`, `18 dollars`, `18%`, `18\text{ km}^2` and `x = 18` are numbers.
4. A statement that begins with a word or holds no digit says nothing: `#### Step 1` is a heading.
   One that holds digits and is not one number is a contradiction: `17 or 18`, `17, 18`, `1/2`, and
   also `9 \times 2` and `18 thousand`, because an answer is a number and not a calculation.
5. **The answer** is the number on which all statements agree. Where two differ, or one is a
   contradiction, there is none: a reply gains nothing by naming several numbers, in any order.
   A reply without a statement has no answer, whatever numbers it holds, and neither has one with
   more than `MAX_STATEMENTS`.

Numbers are compared as decimals, so 18, 18.0 and 18.00 are equal. The time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice
from typing import Final

MAX_STATEMENT: Final = 200
"""Characters of a statement; a longer one is not a number with its unit."""
MAX_STATEMENTS: Final = 100
"""A reply with more of them has no answer."""

_THINKING: Final = re.compile(r"(</?think>)", re.IGNORECASE)
_BRACES: Final = re.compile(r"\\f?box(?:ed)?\s*+\{|\\.|[{}]", re.DOTALL)
_PHRASE: Final = re.compile(r"\banswer[*_`\s]*+(?:is\b[*_`\s]*+:?|[:=])", re.IGNORECASE)
_SENTENCE_END: Final = re.compile(r"[.!?;](?=[\s*_`]|$)")
_MARKUP: Final = re.compile(r"[*_`]+")
_LEAD_IN: Final = re.compile(
    r"[\s*_`]*+(?:the\s++)?(?:final\s++)?answer\b[\s:=*_`]*+(?:is\b[\s:=*_`]*+)?", re.IGNORECASE
)
_GROUPING: Final = re.compile(r"(?<=\d)(?:\{,\}|,?\\[,!;: ]|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))")
_UNIT_POWER: Final = re.compile(r"(?<=[A-Za-z])(\}?)(?:\^\{?[23]\}?|[²³])")
_NUMBER: Final = re.compile(
    r"""
    (?:[A-Za-z]\w*\s*=|=)?                                             # x = 18
    (?:\s|\\[($\[]|\\(?:text|mathrm|(?:text|math)bf|f?box(?:ed)?)\{|US\$|USD\b|[${(\[€£¥])*+
    (?P<sign>[-+−]?)
    (?:\s|\\?\$|[€£¥])*+                                               # -$18
    (?P<digits>\d{1,3}(?:,\d{3})+(?!,?\d)(?:\.\d+)?|\d{1,30}(?:\.\d{1,30})?|\.\d{1,30})
    (?P<unit>.*)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_SCALED: Final = re.compile(
    r"k\b|.*\b(?:dozen|hundred|thousand|[mbtr]+illion|half|halves|third|quarter|squared|cubed)s?\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Contradiction:
    """A statement that names something other than one number."""


def extract_answer(text: str) -> Decimal | None:
    r"""The number that `text` gives as its answer, or None where it gives none or several.

    >>> extract_answer(r"So it is \boxed{1,080}."), extract_answer("#### 17 or 18")
    (Decimal('1080'), None)
    """
    visible = _without_thinking(text)
    readings = _readings(chain(_boxes(visible), _marked(visible))) or _readings(_phrases(visible))
    if len(readings) != 1:
        return None
    (answer,) = readings
    return answer if isinstance(answer, Decimal) else None


def is_correct(reply: str, gold: str) -> bool:
    """Whether the answer of `reply` equals the one of `gold`.

    Args:
        reply: Untrusted text.
        gold: The field `answer` of a GSM8K record; its number follows the last `####`.

    Raises:
        ValueError: `gold` states no number.
    """
    return extract_answer(reply) == gold_number(gold)


def gold_number(gold: str) -> Decimal:
    """The number that a record states as its answer.

    Args:
        gold: The field `answer` of a GSM8K record; its number follows the last `####`.

    Raises:
        ValueError: `gold` states no number.
    """
    number = _read(gold.rpartition("####")[2])
    if not isinstance(number, Decimal):
        raise ValueError(
            "the gold answer must end in '#### ' and a number, "
            f"got {gold[-MAX_STATEMENT:]!r}; mend the record"
        )
    return number


def _readings(statements: Iterable[str]) -> set[Decimal | _Contradiction]:
    """What the statements say, each thing once."""
    counted = list(islice(statements, MAX_STATEMENTS + 1))
    if len(counted) > MAX_STATEMENTS:
        return {_Contradiction()}
    return {reading for statement in counted if (reading := _read(statement)) is not None}


def _without_thinking(text: str) -> str:
    kept: list[str] = []
    thinking = False
    for piece in _THINKING.split(text):
        match piece.lower():
            case "<think>":
                thinking = True
            case "</think>":
                if not thinking:
                    kept.clear()
                thinking = False
            case _:
                if not thinking:
                    kept.append(piece)
    return "".join(kept)


def _boxes(text: str) -> list[str]:
    """The contents of the outermost closed boxes: they do not overlap, so their sum is bounded."""
    spans: list[tuple[int, int]] = []
    opened: list[tuple[int, bool]] = []
    for match in _BRACES.finditer(text):
        token = match.group()
        if token.endswith("{") and token != r"\{":
            opened.append((match.end(), token != "{"))
        elif token == "}" and opened:
            start, is_box = opened.pop()
            if is_box:
                while spans and spans[-1][0] > start:
                    spans.pop()
                spans.append((start, match.start()))
    return [text[start:end] for start, end in spans]


def _marked(text: str) -> Iterator[str]:
    """What follows each `####`; a line of more signs is a rule or a heading."""
    for match in re.finditer(r"(?<!#)####(?!#)", text):
        statement = _start(text, match.end())
        yield statement.partition("####")[0]


def _phrases(text: str) -> Iterator[str]:
    for match in _PHRASE.finditer(text):
        yield _SENTENCE_END.split(_start(text, match.end()), maxsplit=1)[0]


def _start(text: str, position: int) -> str:
    """The line at `position`, or the first line after it where it is blank; cut where too long."""
    ahead = text[position : position + 2 * MAX_STATEMENT]
    if (lead_in := _LEAD_IN.match(ahead)) is not None:
        ahead = ahead[lead_in.end() :]
    return ahead.lstrip().partition("\n")[0]


def _plain(text: str) -> str:
    """`text` without Markdown emphasis; between digits the signs calculate, so they part them."""
    apart = re.sub(r"(?<=\d)\s*+[*_`]+\s*+(?=[-\d])", " ; ", text)
    return _MARKUP.sub("", apart)


def _read(statement: str) -> Decimal | _Contradiction | None:
    """The number of a statement, a contradiction, or None where the statement says nothing."""
    text = _plain(statement[: MAX_STATEMENT + 1]).strip()
    if not any(character.isdigit() for character in text):
        return None
    text = _UNIT_POWER.sub(r"\1", _GROUPING.sub(",", text))
    match = _NUMBER.match(text)
    if match is None:
        return None if text[0].isalpha() else _Contradiction()
    unit = match["unit"].strip()
    is_second_number = any(character.isnumeric() for character in unit)
    if is_second_number or _SCALED.match(unit) or len(statement) > MAX_STATEMENT:
        return _Contradiction()
    sign = "-" if match["sign"] in {"-", "−"} else ""
    return Decimal(sign + match["digits"].replace(",", ""))

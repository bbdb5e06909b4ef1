"""Which replies are right: cases in which known graders fail, hostile text, and real data."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_envs.gsm8k.answer import MAX_STATEMENTS, extract_answer, is_correct

GOLD = "9 * 2 = <<9*2=18>>18\n#### 18"
DATA = Path(__file__).parents[4] / "shared" / "data" / "gsm8k"


@pytest.mark.parametrize(
    "reply",
    [
        "#### 18",
        "####18",
        "####\n18",
        "#### 18.",
        "#### 18!",
        "#### **18**",
        "#### *18*",
        "#### `18`",
        "#### $18",
        "#### \\$18.00",
        "#### 18.0",
        "#### +18",
        "#### 18%",
        "#### 18 dollars",
        "#### 18 km/h",
        "#### 18 dollars and no cents.",
        "#### USD 18",
        "#### €18",
        "#### Answer: 18",
        "#### **Final Answer**\n18",
        "9 * 2 = 18\n#### 18\n",
        "#### Step 1\n9 * 2\n#### Step 2\n#### 18",
        "#### 18\n#### 18.0",
        "#### \\boxed{18}",
        "\\boxed{18}",
        "\\boxed{ 18 }",
        "$\\boxed{18}$",
        "\\[\\boxed{18}\\]",
        "\\fbox{18}",
        "\\boxed{\\text{18}}",
        "\\boxed{\\$18}",
        "\\boxed{18\\%}",
        "\\boxed{18 \\text{ dollars}}",
        "\\boxed{18\\,\\text{m}^2}",
        "\\boxed{18 \\text{ cm}^{2}}",
        "\\boxed{x = 18}",
        "\\boxed{\\boxed{18}}",
        "\\boxed{} is asked for: \\boxed{18}",
        "\\boxed{ \\boxed{18}",
        "\\boxed{18}\n\n#### 18",
        "The answer is 18.",
        "The answer is $18.",
        "The answer is: **18** eggs.",
        "The answer is \\(18\\). That took 2 steps.",
        "**Answer:** 18",
        "answer = 18",
        "The answer is hard to see. The answer is 18.",
        "<think>#### 17</think>#### 18",
        "<think>\\boxed{17}</think>\\boxed{18}<think>the answer is 17",
        "the answer is 17</think>The answer is 18.",
        "<THINK>#### 17</THINK>#### 18",
    ],
)
def test_accepted(reply: str) -> None:
    assert is_correct(reply, GOLD)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "18",
        "It is 18",
        "\\boxed{18} or \\boxed{17}",
        "\\boxed{17} or \\boxed{18}",
        "#### 17\n#### 18",
        "#### 18\n#### 17",
        "#### 17 #### 18",
        "#### 17 or 18",
        "#### 18 or 17",
        "#### 18, 17",
        "\\boxed{17}\n#### 18",
        "\\boxed{18}\n#### 17",
        "\\boxed{17,18}",
        "\\boxed{17\n18}",
        "The answer is 17 or 18.",
        "The answer is 17. The answer is 18.",
        "The answer is not 18.",
        "\\boxed{9 \\times 2}",
        "\\boxed{\\frac{36}{2}}",
        "#### 36/2",
        "#### 9*2",
        "#### 9 * 2",
        "#### 1*8",
        "#### 1**8",
        "#### 1$8",
        "#### 1 8",
        "#### 18e3",
        "#### 18½",
        "#### 18 and a half",
        "#### 18 thousand",
        "#### 18 million dollars",
        "#### 18k",
        "#### 1,8",
        "#### 1,080,12",
        "#### 1,080, 12",
        "#### 1,0800",
        "#### １８",
        "##### 18",
        "\\boxed{18",
        "#### 18 " + "x" * 300,
        "\\boxed{18" + "*" * 300 + "}",
        "<think>#### 18",
        "#### 18</think>",
        "#### 18\n" * (MAX_STATEMENTS + 1),
    ],
)
def test_without_an_answer(reply: str) -> None:
    assert extract_answer(reply) is None
    assert not is_correct(reply, GOLD)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("#### -18", "-18"),
        ("#### −18", "-18"),
        ("#### -$18", "-18"),
        ("#### 18.5", "18.5"),
        ("The answer is 17.\n#### 18", "18"),
        ("\\boxed{-1,080.50}", "-1080.50"),
        ("#### 1,000,000", "1000000"),
        ("#### 1,080,", "1080"),
        ("The answer is 1,080, so he can pay.", "1080"),
        ("The answer is 18, so he can pay.", "18"),
        ("#### 0", "0"),
    ],
)
def test_extracted(reply: str, answer: str) -> None:
    assert extract_answer(reply) == Decimal(answer)


@pytest.mark.parametrize(
    "reply",
    [
        "#### 1080",
        "#### 1,080",
        "\\boxed{1080}",
        "\\boxed{1{,}080}",
        "\\boxed{1\\,080}",
        "#### 1\u202f080",
    ],
)
def test_thousands_separators_do_not_matter(reply: str) -> None:
    assert is_correct(reply, "#### 1,080")
    assert is_correct(reply, "#### 1080")


def test_a_gold_answer_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="mend the record"):
        is_correct("#### 18", "#### eighteen")


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_one_number_is_right_and_two_are_not(gold: int, other: int) -> None:
    record = f"#### {gold:,}"
    for reply in (f"#### {gold}", f"\\boxed{{{gold:,}}}", f"The answer is {gold}.00."):
        assert is_correct(reply, record)
        for second in (f"#### {other}", f"\\boxed{{{other}}}"):
            both = (f"{reply}\n{second}", f"{second}\n{reply}")
            if reply.startswith("The"):
                assert all(is_correct(text, record) == (gold == other) for text in both)
            else:
                assert all((extract_answer(text) is None) == (gold != other) for text in both)


@given(st.text(alphabet="18 #\\boxed{}$*,.-=\nanswer is", max_size=80))
def test_any_text_has_one_answer_or_none(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or is_correct(text, f"#### {answer}")


@pytest.mark.parametrize(
    "piece",
    [
        "#",
        "####",
        "#### ",
        "#### 1 ",
        "#### the final ",
        "\\boxed{",
        "\\boxed{1}",
        "\\boxed  ",
        "\\",
        "{",
        "}",
        "answer is ",
        "answer is 1 ",
        "answer ",
        "the final ",
        "<think>",
        "</think>",
        "<think>1</think>",
        "*",
        "1*",
        "$",
        "1,111",
        "9",
        " ",
        "\n",
        "\\text{",
    ],
)
def test_hostile_megabytes_are_read_to_the_end(piece: str) -> None:
    body = piece * (1_000_000 // len(piece))
    for reply in (body, f"#### 18{body}\\boxed{{{body}18}}"):
        extract_answer(reply)
    assert is_correct(f"<think>{body.replace('</think>', '')}</think>#### 18", GOLD)


def test_hostile_nesting_is_read_to_the_end() -> None:
    depth = 100_000
    assert extract_answer("\\boxed{" * depth + "18" + "}" * depth) is None
    assert extract_answer("{" * depth + "\\boxed{18}" + "}" * depth) == 18


@pytest.mark.parametrize(("name", "rows"), [("train", 7473), ("test", 1319)])
def test_every_gold_text_of_gsm8k_is_right_by_itself(name: str, rows: int) -> None:
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"needs GSM8K's {name}.jsonl in shared/data/gsm8k beside the checkout")
    golds = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(golds) == rows
    assert sum(is_correct(gold, gold) for gold in golds) == rows
    labels = [gold.rpartition("####")[2].strip() for gold in golds]
    replies = [f"\\boxed{{{label.replace(',', '')}}}" for label in labels]
    assert sum(map(is_correct, replies, golds)) == rows

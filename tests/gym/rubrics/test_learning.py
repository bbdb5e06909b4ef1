"""Rubrics learnt in a world whose rubric is known."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from astuner_gym.errors import JudgeError
from astuner_gym.judging.rubric import read_rubric
from astuner_gym.rubrics.__main__ import main
from astuner_gym.rubrics.examples import Example, Examples, LabelKind
from astuner_gym.rubrics.learning import (
    BASELINE,
    Learned,
    LearningSettings,
    learn,
    parse_proposals,
)
from astuner_gym.testing.chat_server import ChatServer
from tests.gym.judging.judges import ScriptedModel

LETTERS = "abcdefgh"


def question(letter: str) -> str:
    return f"Is there a letter {letter} in it?"


class Reader:
    """Proposes letters two at a time, and tells whether an answer has them."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    def __call__(self, messages: Sequence[Mapping[str, str]]) -> str:
        orders, shown = (each["content"] for each in messages[:2])
        self.orders.append(orders)
        if "Write criteria" in orders:
            untried = [each for each in LETTERS if question(each) not in orders]
            return "Well:\n" + "\n".join(f"- {question(each)}" for each in untried[:2] or ["a"])
        answer = re.findall(r"BEGIN answer .*\n(.*)\nEND", shown)[0]
        asked = re.findall(r"^(\d+)\. (.*)$", orders, re.MULTILINE)
        letters = [re.findall(r"letter (.) in", each) for _, each in asked]
        met = [not found or found[0] in answer for found in letters]
        return "\n".join(
            f"{n}: {'yes' if m else 'no'}" for (n, _), m in zip(asked, met, strict=True)
        )


def words(count: int) -> list[str]:
    draws = Random(0)
    return [
        "".join(sorted(letter for letter in LETTERS if draws.random() < 0.5)) or "z"
        for _ in range(count)
    ]


def score(word: str) -> float:
    return 2.0 * ("f" in word) - 1.0 * ("c" in word)


def learned(examples: Examples, answer: Reader, **settings: int) -> Learned:
    class Model(ScriptedModel):
        async def ask(self, messages, *, parse, temperature=None):  # type: ignore[no-untyped-def]
            return parse(answer(messages))

    model = Model(lambda material: "")
    return asyncio.run(learn(examples, model, LearningSettings(**settings)))


def examples(kind: LabelKind) -> Examples:
    found = []
    for unit, word in enumerate(words(60)):
        label = float("f" in word) if kind is LabelKind.BINARY else score(word)
        found.append(Example(question=f"Q{unit}", answer=f"{word} {unit}", label=label, unit=unit))
    return Examples(kind=kind, examples=tuple(found))


def test_the_criterion_that_people_go_by_is_found() -> None:
    result = learned(examples(LabelKind.BINARY), Reader(), rounds=4, proposals=2)
    (criterion,) = result.rubric.criteria
    assert criterion.question == question("f")
    assert result.improved
    assert (result.before.beyond_chance.value, result.after.beyond_chance.value) == (0, 1)
    assert list(result.rounds) == sorted(result.rounds)
    assert result.rounds[-1] == 1


def test_faults_weigh_below_nothing() -> None:
    result = learned(examples(LabelKind.SCORED), Reader(), rounds=4, proposals=2)
    weights = {each.question: each.weight for each in result.rubric.criteria}
    assert weights[question("f")] > 0 > weights[question("c")]
    assert abs(weights[question("f")]) > abs(weights[question("c")])
    assert result.after.measure == "tau"
    assert result.after.beyond_chance.low > 0.8


def test_ranked_lists_teach_as_well() -> None:
    draws, ranked = Random(1), []
    for unit in range(30):
        listed = sorted(draws.sample(words(60), 3), key=score, reverse=True)
        ranked += [
            Example(question=f"Q{unit}", answer=f"{word} {unit}", label=-float(place), unit=unit)
            for place, word in enumerate(listed)
        ]
    result = learned(
        Examples(kind=LabelKind.RANKED, examples=tuple(ranked)), Reader(), rounds=4, proposals=2
    )
    assert result.rubric.criteria[0].question == question("f")
    assert result.after.beyond_chance.value > result.before.beyond_chance.value


def test_labels_by_nothing_leave_the_plain_question() -> None:
    draws = Random(2)
    noise = [
        Example(question=f"Q{n}", answer=f"z {n}", label=float(draws.random() < 0.5), unit=n)
        for n in range(60)
    ]
    result = learned(Examples(kind=LabelKind.BINARY, examples=tuple(noise)), Reader(), rounds=2)
    assert not result.improved
    assert result.rubric is BASELINE


def test_a_revision_is_shown_what_was_tried_and_what_the_rubric_is() -> None:
    reader = Reader()
    learned(examples(LabelKind.BINARY), reader, rounds=4, proposals=2)
    proposals = [each for each in reader.orders if "Write criteria" in each]
    assert len(proposals) == 4
    assert "best criteria so far" not in proposals[0]
    assert f"- {question('f')} (+1)" in proposals[-1]
    assert all(f"- {question(letter)}\n" in proposals[-1] for letter in "abcde")


def test_no_example_is_checked_twice_against_a_criterion() -> None:
    reader = Reader()
    learned(examples(LabelKind.BINARY), reader, rounds=4, proposals=2)
    checks = [each for each in reader.orders if "Write criteria" not in each]
    asked = sum(each.count("Is there a letter") for each in checks)
    assert asked == 45 * 8 + 15  # of those reported on only the kept one


def test_proposals_are_read_strictly() -> None:
    text = "Some:\n- Is it short?\n2. Is it long?\n- Is it short?\n- A statement.\nIs it odd?"
    assert parse_proposals(text, taken={"is it long?"}) == ["Is it short?"]
    with pytest.raises(ValueError, match="lines that begin with '- '"):
        parse_proposals("Is it short?", taken=set())


def test_a_failing_model_ends_the_learning() -> None:
    class Silent(ScriptedModel):
        async def ask(self, messages, *, parse, temperature=None):  # type: ignore[no-untyped-def]
            raise JudgeError("nobody answers")

    model = Silent(lambda material: "")
    with pytest.raises(JudgeError, match="nobody answers"):
        asyncio.run(learn(examples(LabelKind.BINARY), model, LearningSettings()))


class Tiring(ScriptedModel):
    """Reads until it is asked for criteria a fourth time; then for good unless it recovers."""

    def __init__(self, *, recovers: bool) -> None:
        super().__init__(lambda material: "")
        self._reader = Reader()
        self._recovers = recovers
        self._proposals = 0

    async def ask(self, messages, *, parse, temperature=None):  # type: ignore[no-untyped-def]
        proposes = "Write criteria" in messages[0]["content"]
        self._proposals += proposes
        if self._proposals == 4 and (proposes or not self._recovers):
            raise JudgeError("no credit left")
        return parse(self._reader(messages))


def test_a_model_that_fails_later_leaves_what_was_kept() -> None:
    said: list[str] = []
    settings = LearningSettings(rounds=4, proposals=2)
    model = Tiring(recovers=True)
    result = asyncio.run(learn(examples(LabelKind.BINARY), model, settings, say=said.append))
    assert [each.question for each in result.rubric.criteria] == [question("f")]
    assert len(result.rounds) == 3
    assert said[-1] == "round 4/4 failed, the rubric so far is kept: no credit left"


def test_a_rubric_that_cannot_be_measured_is_said() -> None:
    said: list[str] = []
    settings = LearningSettings(rounds=4, proposals=2)
    model = Tiring(recovers=False)
    with pytest.raises(JudgeError, match="no credit left"):
        asyncio.run(learn(examples(LabelKind.BINARY), model, settings, say=said.append))
    assert f"question: {question('f')}" in said[-1]


def write(path: Path, found: Examples) -> None:
    lines = (
        {"question": each.question, "answer": each.answer, "score": each.label}
        for each in found.examples
    )
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines), encoding="utf-8")


def command(tmp_path: Path, server: str, *settings: str) -> int:
    arguments = [f"judge.base_url={server}", "judge.model=m", *settings]
    return main(["learn", str(tmp_path / "examples.jsonl"), *arguments])


NOBODY = "http://localhost:1/v1"


def test_the_command_writes_a_rubric_that_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "examples.jsonl", examples(LabelKind.BINARY))
    out = tmp_path / "made" / "rubric.yaml"
    with ChatServer(Reader()) as server:
        assert command(tmp_path, server.url, f"out={out}", "learn.proposals=2") == 0
    assert [each.question for each in read_rubric(out).criteria] == [question("f")]
    said = capsys.readouterr().out
    assert "60 binary examples" in said
    assert re.search(r"before +0\.\d\d \(.* kappa|before .* 0\.00 \(0\.00 to 0\.00\)", said)
    assert "after    1.00 (1.00 to 1.00)" in said
    assert "kappa: 1.00 (1.00 to 1.00)" in out.read_text(encoding="utf-8")


def test_the_command_refuses_what_cannot_teach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples.jsonl").write_text('{"question": "Q", "answer": "A", "score": 1}\n', "utf-8")
    assert command(tmp_path, NOBODY) == 2
    assert "at least 24 lines of their own are needed" in capsys.readouterr().err


def test_a_rubric_that_people_may_have_edited_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "examples.jsonl", examples(LabelKind.BINARY))
    out = tmp_path / "rubric.yaml"
    out.write_text("mine", encoding="utf-8")
    with ChatServer(Reader()) as server:
        assert command(tmp_path, server.url, f"out={out}") == 2
        assert server.requests == []
    assert "remove it or set out=<file>" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["judge.modle=m"], "there is no setting judge.modle; did you mean judge.model?"),
        (["learn.rounds=many"], "learn.rounds must be of type int, got 'many'"),
        (["learn.rounds=0"], "learn.rounds must be >= 1, got 0; set learn.rounds=4"),
        (["judge.base_url=h"], "judge.base_url must be an http or https address"),
        (["judge.model="], "judge.model must name a model"),
        (["rounds"], "settings are written key=value, got 'rounds'"),
    ],
)
def test_settings_of_the_command_are_named_as_elsewhere(
    tmp_path: Path, settings: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, NOBODY, *settings) == 2
    assert message in capsys.readouterr().err


def test_a_setting_that_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["learn", str(tmp_path / "examples.jsonl")]) == 2
    assert "judge.base_url must be set" in capsys.readouterr().err

"""Learns a rubric from labelled examples: propose criteria, evaluate them, revise.

Each round shows a model examples with their labels and asks for yes-or-no criteria that tell good
answers from bad ones; in later rounds those on which the rubric so far is most wrong, beside its
criteria, so that the model may put them better. The judging model then checks every example against
the new criteria. Of all criteria asked so far the ones that explain the labels are picked one by
one, with weights by ridge regression.

The examples are in three parts. Criteria are proposed, picked and weighed on the first. A rubric is
kept if it agrees better than the last one on the second, which it was not made on. The third is
looked at once, at the end, for the figures that are reported: choosing cannot have flattered them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from astuner_gym.errors import JudgeError, SettingError
from astuner_gym.judging.answers import enclosed
from astuner_gym.judging.asking import all_of
from astuner_gym.judging.brief import CRITERIA
from astuner_gym.judging.llm import ATTACK_FIGURE
from astuner_gym.judging.model import JudgeModel
from astuner_gym.judging.rubric import Criterion, Rubric, check_criteria, rubric_yaml
from astuner_gym.rubrics.agreement import Agreement, agreement, beyond_chance
from astuner_gym.rubrics.examples import Example, Examples, LabelKind, split

PARTS: Final = (0.5, 0.25, 0.25)
"""Shares of the examples to learn on, to decide on, and to report on."""
BASELINE: Final = Rubric(
    criteria=(
        Criterion(
            name="good",
            question=f"Does this hold of the answer? {CRITERIA}",
        ),
    )
)
"""What a judge does with no rubric: the agreement before."""
_LEAST_GAIN: Final = 0.01
"""By which a further criterion must better the agreement on the part that is learnt from."""
_RIDGE: Final = 1.0
_SHOWN_CHARACTERS: Final = 1500
_PROPOSAL: Final = re.compile(r"\s*(?:[-*•]|\d+[.)])\s*(?P<question>\S.*\?)\s*")
_PROPOSE: Final = (
    "People have labelled answers to tasks, and you find out by what. Below are some answers, each "
    "with what was said of it. Write criteria that tell the answers that people like from those "
    "that they do not: each a question about one answer alone that can be answered by yes or no, "
    "about one thing only, and clear enough that two people would answer it alike. A question may "
    "be about a fault. Write at most {count} questions, each on a line of its own that begins with "
    "'- ' and ends with a question mark."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningSettings:
    """How a rubric is learnt."""

    rounds: int = 4
    """How often criteria are proposed."""
    proposals: int = 8
    """Criteria of a round, at most."""
    shown: int = 12
    """Examples that a proposal is made from."""
    most_criteria: int = 5
    """Criteria of a rubric, at most."""
    seed: int = 0
    """Names how the examples are split."""

    def __post_init__(self) -> None:
        for name, value in (
            ("rounds", self.rounds),
            ("proposals", self.proposals),
            ("shown", self.shown),
            ("most_criteria", self.most_criteria),
        ):
            if value < 1:
                raise SettingError(f"learn.{name} must be >= 1, got {value}; set learn.{name}=4")
        if self.seed < 0:
            raise SettingError(f"learn.seed must be >= 0, got {self.seed}; set learn.seed=0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What learning came to."""

    rubric: Rubric
    """The baseline if nothing agreed better on the part to decide on."""
    improved: bool
    before: Agreement
    """Of the baseline, on the part to report on."""
    after: Agreement
    """Of the rubric, on the same part."""
    rounds: tuple[float, ...]
    """Kappa or tau of the kept rubric on the part to decide on, after each round."""
    asked: int
    """Criteria that were proposed and checked."""


async def learn(
    examples: Examples,
    model: JudgeModel,
    settings: LearningSettings,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Learned:
    """Learn a rubric.

    Args:
        examples: Labelled answers.
        model: Proposes criteria and checks answers against them.
        settings: How.
        say: Given a line for people after each round.

    A model that fails in a later round ends the learning with what was kept before.

    Raises:
        JudgeError: The model gives no usable answer.
    """
    learnt, decided, reported = split(examples, shares=PARTS, seed=settings.seed)
    checked = _Checked(model)
    kept, kept_at = BASELINE, await _agreement_on(decided, checked, BASELINE, examples.kind)
    pool: list[Criterion] = list(BASELINE.criteria)
    history = []
    for number in range(settings.rounds):
        try:
            rewards = await checked.rewards(kept, learnt)
            shown = _telling(
                learnt, rewards, kind=examples.kind, count=settings.shown, first=number == 0
            )
            proposed = await _propose(model, shown, pool, kept, settings)
            await checked.check([*pool, *proposed], [*learnt, *decided])
        except JudgeError as error:
            if kept is BASELINE:
                raise
            say(f"round {number + 1}/{settings.rounds} failed, the rubric so far is kept: {error}")
            break
        pool += proposed
        candidate, at = kept, kept_at
        for rubric in _picked(pool, learnt, checked, examples.kind, settings.most_criteria):
            agreed = await _agreement_on(decided, checked, rubric, examples.kind)
            if agreed > at:
                candidate, at = rubric, agreed
        kept, kept_at = candidate, at
        history.append(kept_at)
        say(
            f"round {number + 1}/{settings.rounds}: {len(proposed)} new criteria, "
            f"agreement beyond chance {kept_at:.2f}"
        )
    try:
        await checked.check([*BASELINE.criteria, *kept.criteria], reported)
    except JudgeError:
        say(f"the rubric, of which the agreement cannot be reported:\n{rubric_yaml(kept)}")
        raise
    before, after = [
        agreement(
            await checked.rewards(rubric, reported),
            reported,
            kind=examples.kind,
            success_from=rubric.success_from,
            seed=settings.seed,
        )
        for rubric in (BASELINE, kept)
    ]
    return Learned(
        rubric=kept,
        improved=kept is not BASELINE,
        before=before,
        after=after,
        rounds=tuple(history),
        asked=len(pool) - len(BASELINE.criteria),
    )


class _Checked:
    """Which examples meet which criteria, asked when first needed."""

    def __init__(self, model: JudgeModel) -> None:
        self._model = model
        self._met: dict[tuple[str, str, str], bool] = {}

    async def check(self, criteria: Sequence[Criterion], examples: Sequence[Example]) -> None:
        """Ask about what is not known: one question an example."""

        async def ask(example: Example) -> None:
            unknown = [c for c in criteria if self._key(c, example) not in self._met]
            if unknown:
                material = {"task": example.question, "answer": example.answer}
                met = await check_criteria(self._model, unknown, material=material)
                for each in unknown:
                    self._met[self._key(each, example)] = met[each.name]

        unlike = {(each.question, each.answer): each for each in examples}
        await all_of(map(ask, unlike.values()))

    async def rewards(self, rubric: Rubric, examples: Sequence[Example]) -> list[float]:
        """Return [N] what a rubric gives."""
        await self.check(rubric.criteria, examples)
        return [
            rubric.reward({c.name: self._met[self._key(c, each)] for c in rubric.criteria})
            for each in examples
        ]

    def matrix(
        self, criteria: Sequence[Criterion], examples: Sequence[Example]
    ) -> NDArray[np.float64]:
        """Return [N, C] 1 where an example meets a criterion, all of which must be known."""
        rows = [[self._met[self._key(c, each)] for c in criteria] for each in examples]
        return np.asarray(rows, dtype=np.float64)

    @staticmethod
    def _key(criterion: Criterion, example: Example) -> tuple[str, str, str]:
        return criterion.question, example.question, example.answer


async def _agreement_on(
    examples: Sequence[Example], checked: _Checked, rubric: Rubric, kind: LabelKind
) -> float:
    return beyond_chance(
        await checked.rewards(rubric, examples),
        examples,
        kind=kind,
        success_from=rubric.success_from,
    )


async def _propose(
    model: JudgeModel,
    shown: Sequence[Example],
    pool: Sequence[Criterion],
    kept: Rubric,
    settings: LearningSettings,
) -> list[Criterion]:
    orders = _PROPOSE.format(count=settings.proposals)
    if kept is not BASELINE:
        current = "\n".join(f"- {each.question} ({each.weight:+g})" for each in kept.criteria)
        orders += (
            "\n\nThe best criteria so far, with their weights, which are most wrong about the "
            f"answers below:\n{current}\nFind what they miss, or put one of them better."
        )
    tried = "\n".join(f"- {each.question}" for each in pool)
    orders += f"\n\nThese were tried; write others:\n{tried}"
    texts = {}
    for number, each in enumerate(shown, start=1):
        texts[f"task {number}"] = each.question[:_SHOWN_CHARACTERS]
        texts[f"answer {number}"] = each.answer[:_SHOWN_CHARACTERS]
    material, rule = enclosed(texts)
    said = "\n".join(
        f"answer {number}: label {each.label:g}" for number, each in enumerate(shown, start=1)
    )
    taken = {each.question.casefold() for each in pool}

    def parse(text: str) -> list[str]:
        return parse_proposals(text, taken=taken)

    questions = await model.ask(
        [
            {"role": "system", "content": f"{orders}\n\n{rule}"},
            {"role": "user", "content": f"{material}\n\nLabels, higher is better:\n{said}"},
        ],
        parse=parse,
    )
    names = {ATTACK_FIGURE, *(each.name for each in pool)}
    proposed = []
    for question in questions[: settings.proposals]:
        name = _name(question, names)
        names.add(name)
        proposed.append(Criterion(name=name, question=question))
    return proposed


def parse_proposals(text: str, *, taken: set[str]) -> list[str]:
    """Return the questions of a proposal without those that were tried, in their order.

    Raises:
        ValueError: There is no list of questions; one that holds nothing new is no error.
    """
    found = [
        match["question"] for line in text.splitlines() if (match := _PROPOSAL.fullmatch(line))
    ]
    if not found:
        raise ValueError("there must be lines that begin with '- ' and end with a question mark")
    return [each for each in dict.fromkeys(found) if each.casefold() not in taken]


def _telling(
    examples: Sequence[Example],
    rewards: Sequence[float],
    *,
    kind: LabelKind,
    count: int,
    first: bool,
) -> list[Example]:
    """Return examples to propose from: the best and the worst first, later the most misjudged."""
    labels = _centred(examples, kind)
    if first:
        order = np.argsort(labels, kind="stable")
        half = count // 2
        chosen = [*order[:half], *order[len(order) - (count - half) :]]
        return [examples[index] for index in dict.fromkeys(map(int, chosen))]
    given = _standard(np.asarray(rewards, dtype=np.float64))
    wrong = np.argsort(-np.abs(given - _standard(labels)), kind="stable")
    return [examples[int(index)] for index in wrong[:count]]


def _picked(
    pool: Sequence[Criterion],
    examples: Sequence[Example],
    checked: _Checked,
    kind: LabelKind,
    most: int,
) -> list[Rubric]:
    """Return rubrics of one criterion and more, each with the one more that explains the most."""
    met = checked.matrix(pool, examples)
    chosen: list[int] = []
    rubrics: list[Rubric] = []
    best = 0.0
    while len(chosen) < most:
        tried = []
        for index in range(len(pool)):
            if index not in chosen and 0 < met[:, index].mean() < 1:
                rubric = _fitted(pool, [*chosen, index], met, examples, kind)
                if rubric is not None:
                    tried.append(
                        (_beyond_chance(rubric, pool, met, examples, kind), -index, rubric)
                    )
        if not tried:
            break
        agreed, negative_index, rubric = max(tried, key=lambda each: each[:2])
        if agreed < best + _LEAST_GAIN:
            break
        best = agreed
        chosen.append(-negative_index)
        rubrics.append(rubric)
    return rubrics


def _fitted(
    pool: Sequence[Criterion],
    chosen: Sequence[int],
    met: NDArray[np.float64],
    examples: Sequence[Example],
    kind: LabelKind,
) -> Rubric | None:
    """Return the rubric of these criteria, weighed to explain the labels; None if a weight is 0."""
    columns = met[:, chosen] - met[:, chosen].mean(axis=0)
    labels = _standard(_centred(examples, kind))
    gram = columns.T @ columns + _RIDGE * np.eye(len(chosen))
    weights = np.linalg.solve(gram, columns.T @ labels)
    weights = np.round(weights / max(np.abs(weights).sum(), 1e-12), 2)
    if (weights == 0).any():
        return None
    rubric = Rubric(
        criteria=tuple(
            Criterion(name=pool[index].name, question=pool[index].question, weight=float(weight))
            for index, weight in zip(chosen, weights, strict=True)
        )
    )
    if kind is not LabelKind.BINARY:
        return rubric
    rewards = _rewards(rubric, pool, met)
    levels = sorted(set(rewards))
    cuts = [(low + high) / 2 for low, high in pairwise(levels)]
    # The cut that agrees best; of equals the one nearest to the middle.
    best = max(
        cuts,
        key=lambda cut: (
            beyond_chance(rewards, examples, kind=kind, success_from=cut),
            -abs(cut - 0.5),
        ),
        default=0.5,
    )
    return Rubric(criteria=rubric.criteria, success_from=round(best, 3))


def _beyond_chance(
    rubric: Rubric,
    pool: Sequence[Criterion],
    met: NDArray[np.float64],
    examples: Sequence[Example],
    kind: LabelKind,
) -> float:
    return beyond_chance(
        _rewards(rubric, pool, met), examples, kind=kind, success_from=rubric.success_from
    )


def _rewards(rubric: Rubric, pool: Sequence[Criterion], met: NDArray[np.float64]) -> list[float]:
    column = {each.name: index for index, each in enumerate(pool)}
    return [
        rubric.reward({each.name: bool(row[column[each.name]]) for each in rubric.criteria})
        for row in met
    ]


def _centred(examples: Sequence[Example], kind: LabelKind) -> NDArray[np.float64]:
    """Return [N] the labels; of RANKED from 0 for the worst of a list to 1 for its best."""
    labels = np.asarray([each.label for each in examples], dtype=np.float64)
    if kind is LabelKind.RANKED:
        units = np.asarray([each.unit for each in examples])
        for unit in np.unique(units):
            rows = units == unit
            labels[rows] = 1 + labels[rows] / max(1, rows.sum() - 1)
    return labels


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = float(values.std())
    centred: NDArray[np.float64] = values - values.mean()
    return centred / spread if spread else centred


def _name(question: str, taken: set[str]) -> str:
    """Return a name for a criterion from the words that say the most about it."""
    words = [word for word in re.findall(r"[a-z0-9]+", question.casefold()) if word not in _DULL]
    stem = "_".join(words[:4])[:40] or "criterion"
    number = 1
    while (name := stem if number == 1 else f"{stem}_{number}") in taken:
        number += 1
    return name


_DULL: Final = frozenset(
    re.findall(
        r"\w+",
        "a an the is are was does do did has have it its of in on to for by with that this answer "
        "response reply and or any at least as be",
    )
)

"""A language model as a judge of a group: which answers to a task are better than which others.

An answer's reward is the share of the others that it beats, a tie counting half: with three answers
of which the first beats both others and the others tie, the rewards are 1, 0.25 and 0.25. Models
favour a place in the list, so all is asked twice, with the places swapped.

Equal answers tie and are shown once; one that aims at the judge loses against all that do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import combinations
from statistics import fmean
from typing import Final, Protocol, TypeVar

from astuner_gym.judge import Score
from astuner_gym.judging.answers import answer_text, enclosed
from astuner_gym.judging.asking import all_of
from astuner_gym.judging.brief import LIST_FORM, PAIR_FORM, Brief
from astuner_gym.judging.llm import figures_of, last_line
from astuner_gym.judging.model import JudgeModel
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult

T = TypeVar("T")

_BETTER: Final = re.compile(r"\W*better\W*?(?P<better>1|2|tie)\W*", re.IGNORECASE)
_RANKING: Final = re.compile(r"\W*ranking\W*?(?P<ranking>\d+(?:[\s,>]+\d+)*)\W*", re.IGNORECASE)


class _Comparison(Protocol):
    async def wins(self, task: Task, answers: Sequence[str]) -> dict[tuple[int, int], float]:
        """Return how often each answer beat each other one, in [0, 1], by their indices (i, j)."""
        ...


class ComparingJudge:
    """Scores the episodes of a group against each other.

    Figures of each episode: ``attack`` and ``attack/<kind>``, and ``undecided``, the share of the
    other answers that are neither better nor worse, or so only in one of the two orders.
    """

    def __init__(self, comparison: _Comparison, *, brief: Brief) -> None:
        self._comparison = comparison
        self._brief = brief

    async def score_group(self, task: Task, results: Sequence[WorkflowResult]) -> list[Score]:
        """Return a score for each result; a group of one has nothing to beat and gets 0.5.

        Raises:
            JudgeError: The model gives no usable answer to one of the questions.
            TaskDataError: The task lacks a field that is to be shown.
        """
        texts = [answer_text(result.output) for result in results]
        attacks = [self._brief.attacks_in(task, text) for text in texts]
        worthless = [self._brief.is_worthless(each) for each in attacks]
        # By digest: neither the order of the episodes nor that of their arrival shows.
        entrants = sorted(
            {text for text, is_out in zip(texts, worthless, strict=True) if not is_out},
            key=lambda text: sha256(text.encode(errors="surrogatepass")).digest(),
        )
        wins = await self._comparison.wins(task, entrants) if len(entrants) > 1 else {}
        place = {text: index for index, text in enumerate(entrants)}

        def beats(first: int, second: int) -> float:
            if worthless[first] or worthless[second]:
                return 0.5 + 0.5 * (worthless[second] - worthless[first])
            pair = place[texts[first]], place[texts[second]]
            return 0.5 if pair[0] == pair[1] else wins[pair]

        return [
            _score(
                [beats(index, other) for other in range(len(texts)) if other != index],
                figures=figures_of(attacks[index]),
            )
            for index in range(len(texts))
        ]


def _score(shares: Sequence[float], *, figures: dict[str, float]) -> Score:
    reward = fmean(shares) if shares else 0.5
    undecided = {"undecided": fmean(share == 0.5 for share in shares)} if shares else {}
    return Score(rewards={"*": reward}, success=reward > 0.5, metrics=figures | undecided)


class Pairwise:
    """Asks about each pair of answers, in both orders: n(n - 1) questions for n of them."""

    def __init__(self, model: JudgeModel, *, brief: Brief) -> None:
        self._ask = _Question(model, brief, form=PAIR_FORM)

    async def wins(self, task: Task, answers: Sequence[str]) -> dict[tuple[int, int], float]:
        """Return for each (i, j) how often i beat j, a tie counting half."""
        pairs = list(combinations(range(len(answers)), 2))
        asked = [(i, j) for pair in pairs for i, j in (pair, pair[::-1])]
        first_wins = await all_of(
            self._ask(task, [answers[i], answers[j]], parse=parse_better) for i, j in asked
        )
        won = dict(zip(asked, first_wins, strict=True))
        return {(i, j): (won[i, j] + 1 - won[j, i]) / 2 for i, j in asked}


class Listwise:
    """Asks for a ranking of all answers, in one order and in the reverse one: two questions."""

    def __init__(self, model: JudgeModel, *, brief: Brief) -> None:
        self._model, self._brief = model, brief

    async def wins(self, task: Task, answers: Sequence[str]) -> dict[tuple[int, int], float]:
        """Return for each (i, j) the share of the rankings in which i stands before j."""
        count = len(answers)
        ask = _Question(self._model, self._brief, form=LIST_FORM.format(count=count))

        def parse(text: str) -> list[int]:
            return parse_ranking(text, count=count)

        forth, back = await all_of(
            ask(task, shown, parse=parse) for shown in (answers, answers[::-1])
        )
        rankings = (forth, [count - 1 - index for index in back])
        places = [{index: place for place, index in enumerate(ranking)} for ranking in rankings]
        return {
            (i, j): fmean(place[i] < place[j] for place in places)
            for i in range(count)
            for j in range(count)
            if i != j
        }


class _Question:
    """Shows answers to a task, numbered from 1."""

    def __init__(self, model: JudgeModel, brief: Brief, *, form: str) -> None:
        self._model, self._brief, self._form = model, brief, form

    async def __call__(self, task: Task, answers: Sequence[str], *, parse: Callable[[str], T]) -> T:
        numbered = {f"answer {number}": text for number, text in enumerate(answers, start=1)}
        material, rule = enclosed({**self._brief.material(task), **numbered})
        orders = f"{self._brief.instructions(self._form)}\n\n{rule}"
        return await self._model.ask(
            [{"role": "system", "content": orders}, {"role": "user", "content": material}],
            parse=parse,
        )


def parse_better(text: str) -> float:
    """Return 1 if the first answer is the better one, 0 if the second one is, 0.5 for a tie.

    Raises:
        ValueError: The last line does not say.
    """
    match = _BETTER.fullmatch(last_line(text))
    if match is None:
        raise ValueError("the last line must be 'Better: 1', 'Better: 2' or 'Better: tie'")
    return {"1": 1.0, "2": 0.0, "tie": 0.5}[match["better"].lower()]


def parse_ranking(text: str, *, count: int) -> list[int]:
    """Return the indices of the answers from 0, the best one first.

    Raises:
        ValueError: The last line does not name each of ``count`` answers once.
    """
    match = _RANKING.fullmatch(last_line(text))
    named = (
        [] if match is None else [int(each) - 1 for each in re.findall(r"\d+", match["ranking"])]
    )
    if sorted(named) != list(range(count)):
        raise ValueError(
            f"the last line must be 'Ranking: ' and each number from 1 to {count} once"
        )
    return named

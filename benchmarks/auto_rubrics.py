"""Whether a rubric that is known is learnt from few labels, some of them wrong.

People like the answers that have one feature of 24; 15 % of their labels are wrong. A server on
this machine proposes the features in an order of its own, a few at a time, and tells whether an
answer has one, wrongly in 5 % of the cases (:mod:`benchmarks.scripted_judge`). The rubric is found
if the criterion that weighs most is the one that people go by. The agreement is with labels that
nothing was learnt or chosen on, and these have errors as well: 1 is out of reach.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import asdict
from random import Random

from astuner_gym.judging.endpoint import ChatEndpoint, EndpointConfig
from astuner_gym.rubrics.examples import Example, Examples, LabelKind
from astuner_gym.rubrics.learning import Learned, LearningSettings, learn
from astuner_gym.testing.chat_server import ChatServer
from benchmarks.report import Bar, report
from benchmarks.scripted_judge import FEATURES, ScriptedJudge, make_answer

SEEDS, EXAMPLES = 10, 80
LABEL_NOISE, JUDGE_NOISE = 0.15, 0.05


def hidden_criterion(seed: int) -> str:
    """Return the question that people go by."""
    return Random(f"hidden/{seed}").choice(FEATURES).question


def labelled(seed: int) -> Examples:
    """Return answers with labels, of which exactly the given share is wrong."""
    draws = Random(f"examples/{seed}")
    hidden = hidden_criterion(seed)
    wrong = set(draws.sample(range(EXAMPLES), round(LABEL_NOISE * EXAMPLES)))
    examples = []
    for unit in range(EXAMPLES):
        answer, met = make_answer(draws)
        examples.append(
            Example(
                question=f"Question {unit}",
                answer=answer,
                label=float(met[hidden] is not (unit in wrong)),
                unit=unit,
            )
        )
    return Examples(kind=LabelKind.BINARY, examples=tuple(examples))


def learn_rubric(seed: int) -> Learned:
    """Learn from the examples of a seed with a server of its own."""

    async def run(url: str) -> Learned:
        endpoint = ChatEndpoint(EndpointConfig(url, "scripted"))
        try:
            return await learn(labelled(seed), endpoint, LearningSettings(seed=seed))
        finally:
            await endpoint.close()

    judge = ScriptedJudge(seed=seed, error_rate=JUDGE_NOISE)
    with ChatServer(judge, concurrent=True) as server:
        return asyncio.run(run(server.url))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 seeds, nothing kept")
    quick = parser.parse_args().quick
    print(f"{EXAMPLES} examples, {len(FEATURES)} criteria, {LABEL_NOISE:.0%} of the labels wrong")
    print(
        f"{'seed':>4}  {'found':5}  {'kappa before':>24}  {'after':>24}  {'criteria':>8}  {'s':>5}"
    )
    found, gains, rows = 0, [], []
    seeds = 3 if quick else SEEDS
    for seed in range(seeds):
        started = time.perf_counter()
        learned = learn_rubric(seed)
        seconds = time.perf_counter() - started
        heaviest = max(learned.rubric.criteria, key=lambda each: abs(each.weight))
        is_found = heaviest.question == hidden_criterion(seed)
        found += is_found
        before, after = learned.before.beyond_chance, learned.after.beyond_chance
        gains.append(after.value - before.value)
        print(
            f"{seed:4}  {'yes' if is_found else 'no':5}  {before!s:>24}  {after!s:>24}  "
            f"{len(learned.rubric.criteria):8}  {seconds:5.1f}"
        )
        rows.append(
            {
                "seed": seed,
                "found": is_found,
                "kappa_before": asdict(before),
                "kappa_after": asdict(after),
                "accuracy_before": asdict(learned.before.accuracy),
                "accuracy_after": asdict(learned.after.accuracy),
                "rounds": learned.rounds,
                "rubric": {each.question: each.weight for each in learned.rubric.criteria},
                "seconds": seconds,
            }
        )
    report(
        "auto_rubrics",
        figures={
            "examples": EXAMPLES,
            "criteria": len(FEATURES),
            "label_noise": LABEL_NOISE,
            "judge_noise": JUDGE_NOISE,
            "seeds": rows,
        },
        bars={
            "found": Bar(found, ">=", round(0.9 * seeds)),
            "agreement_gain_min": Bar(min(gains), ">", 0.0),
        },
        keep=not quick,
    )


if __name__ == "__main__":
    main()

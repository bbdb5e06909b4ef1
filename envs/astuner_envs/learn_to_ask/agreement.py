"""How far the rule judge agrees with a reader, on 100 pairs labelled by hand.

``python -m astuner_envs.learn_to_ask.agreement`` prints it. Each line of
``data/labelled_pairs.jsonl`` has a question, what a person went on to say, and how well the
question fits, by one reader, a language model, who labelled all of them by the meaning of the words
before the rule was run on any. What was changed in the rule afterwards, that long questions and
lists gain nothing, changed no label on them. Of the pairs, 40 are of generated dialogues, and 60
are made up, half of them of repairs and half of medical interviews.

``data/pairs_rule_was_mended_on.jsonl`` has 100 others by the same reader, all made up and in
wordings that the rule had not been made for. It agreed on 67 of them (kappa 0.53) and was then
mended, so what it reaches on them now says little of others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from astuner_envs.learn_to_ask.content import Fit, best_fit
from astuner_envs.learn_to_ask.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPair:
    """A question and what came of it, labelled by hand."""

    question: str
    info: str
    fit: Fit

    def by_rule(self) -> Fit:
        """Return the label that the rule judge gives."""
        return best_fit(Reply(self.question).questions, self.info)


FRESH, MENDED_ON = "labelled_pairs.jsonl", "pairs_rule_was_mended_on.jsonl"


def labelled_pairs(name: str = FRESH) -> list[LabelledPair]:
    """Return the pairs of a file that ships."""
    text = (files("astuner_envs.learn_to_ask") / "data" / name).read_text("utf-8")
    return [
        LabelledPair(question=line["question"], info=line["info"], fit=Fit(line["fit"]))
        for line in map(json.loads, text.splitlines())
    ]


def accuracy(pairs: Sequence[tuple[Fit, Fit]]) -> float:
    """Return the share of pairs with two equal labels."""
    return sum(one is other for one, other in pairs) / len(pairs)


def cohens_kappa(pairs: Sequence[tuple[Fit, Fit]]) -> float:
    """Return agreement beyond chance: (p - e) / (1 - e), with e that of independent labels.

    Cohen 1960, "A Coefficient of Agreement for Nominal Scales".
    """
    ones = Counter(one for one, _ in pairs)
    others = Counter(other for _, other in pairs)
    by_chance = sum(ones[label] * others[label] for label in Fit) / len(pairs) ** 2
    return (accuracy(pairs) - by_chance) / (1 - by_chance)


def main() -> None:
    """Print the table of labels, accuracy, kappa, and the pairs on which they differ."""
    for name in (MENDED_ON, FRESH):
        pairs = labelled_pairs(name)
        labels = [(pair.fit, pair.by_rule()) for pair in pairs]
        print(f"{name}: {len(pairs)} pairs, accuracy {accuracy(labels):.2f}, ", end="")
        print(f"kappa {cohens_kappa(labels):.2f}", end="")
        direct = sum((one is Fit.DIRECT) is (other is Fit.DIRECT) for one, other in labels)
        print(f"; direct or not: accuracy {direct / len(pairs):.2f}")
    print(f"\n{'by hand / by rule':20}" + "".join(f"{fit:>10}" for fit in Fit))
    for hand in Fit:
        counts = [labels.count((hand, rule)) for rule in Fit]
        print(f"{hand:20}" + "".join(f"{count:10}" for count in counts))
    print()
    for pair, (hand, rule) in zip(pairs, labels, strict=True):
        if hand is not rule:
            print(f"{hand} by hand, {rule} by rule: {pair.question} / {pair.info!r}")


if __name__ == "__main__":
    main()

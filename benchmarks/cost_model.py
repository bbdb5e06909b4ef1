"""What a training step costs on any number of ranks and samplers, from what its parts cost.

The learner's ranks take the same step on shares of one batch. A step of N ranks takes

    preparation   every rank reads the whole batch and works out the shares: not divided
    passes        fixed part + seconds per token x tokens that the busiest rank is fed
    optimizer     that of all weights / N
    collectives   weights all-gathered once and gradients reduce-scattered once, part by part, each
                  in a ring: (N - 1) x latency a call, and (N - 1) / N of the bytes over bandwidth;
                  nothing is computed meanwhile (``learning.sharded_weights``)

*Imbalance* is in the tokens of the busiest rank: an N-th of the batch, more where shares cannot be
cut evenly, and what rows of different shares have in common is fed to each of them
(``learning.shares``). *Contention* is by how much all of it slows down while the other processes of
a machine compute, too: they share its memory.

A sampler decodes all its rows in steps, each of a fixed part, in which the weights are read, and a
part for each row. S samplers take

    longest reply x fixed part + sampled tokens / S x seconds per row

where all rows of a sampler fit in at once, so that the longest reply is a floor that no number of
samplers goes below; with more rows than fit in, the first factor is the number of steps in which
they can be had.

*Transfer* is the weights' way to the samplers: gathered by the ranks, copied to the store of the
first one's machine, handed from machine to machine, where each that has them hands them on, and
read by the samplers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Seconds that grow evenly with an amount."""

    fixed_s: float
    each_s: float

    def at(self, amount: float) -> float:
        """Return the seconds of an amount."""
        return self.fixed_s + self.each_s * amount

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Self:
        """Return the line of least squared errors relative to the seconds, with no part below 0.

        Args:
            points: Amounts, of which at least two differ, and the seconds of each, > 0.
        """
        # Weighted so that an error of a tenth counts alike for the long and the short.
        weights = [1 / seconds**2 for _, seconds in points]
        total = sum(weights)
        mean = sum(w * amount for w, (amount, _) in zip(weights, points, strict=True)) / total
        mean_s = sum(w * seconds for w, (_, seconds) in zip(weights, points, strict=True)) / total
        above = sum(
            w * (amount - mean) * (seconds - mean_s)
            for w, (amount, seconds) in zip(weights, points, strict=True)
        )
        spread = sum(
            w * (amount - mean) ** 2 for w, (amount, _) in zip(weights, points, strict=True)
        )
        each = max(0.0, above / spread)
        fixed = mean_s - each * mean
        if fixed >= 0:
            return cls(fixed_s=fixed, each_s=each)
        ratio = sum(w * a * s for w, (a, s) in zip(weights, points, strict=True))
        return cls(
            fixed_s=0.0,
            each_s=ratio / sum(w * a * a for w, (a, _) in zip(weights, points, strict=True)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What joins neighbours of a ring."""

    latency_s: float
    bytes_per_s: float

    def ring_s(self, size: float, *, ranks: int, calls: int) -> float:
        """Return the seconds of an all-gather or reduce-scatter.

        Args:
            size: Bytes of the whole, over all calls.
            ranks: Of the ring.
            calls: Into which it is divided.
        """
        hops = ranks - 1
        return calls * hops * self.latency_s + size * hops / ranks / self.bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerTerms:
    """Seconds of one step of the learner."""

    preparation_s: float
    passes_s: float
    optimizer_s: float
    collectives_s: float

    @property
    def total_s(self) -> float:
        """All of it, one after the other."""
        return self.preparation_s + self.passes_s + self.optimizer_s + self.collectives_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerCost:
    """What the learner's parts cost."""

    preparation: Line
    """Over tokens of the batch."""
    passes: Line
    """Over tokens that a rank is fed."""
    optimizer_s: float
    """Of all weights."""
    weight_bytes: float
    """In the type that is computed in."""
    gradient_bytes: float
    """In the type that is summed in."""
    parts: int
    """Into which the weights are divided for the collectives."""

    def step(
        self, *, ranks: int, batch: float, most_fed: float, link: Link, contention: float = 1.0
    ) -> LearnerTerms:
        """Return what a step takes.

        Args:
            ranks: How many.
            batch: Tokens of the batch, each prefix counted once.
            most_fed: Tokens that the busiest rank is fed.
            link: Between ranks.
            contention: Factor on all that is computed.
        """
        return LearnerTerms(
            preparation_s=contention * self.preparation.at(batch),
            passes_s=contention * self.passes.at(most_fed),
            optimizer_s=contention * self.optimizer_s / ranks,
            collectives_s=link.ring_s(
                self.weight_bytes + self.gradient_bytes, ranks=ranks, calls=2 * self.parts
            )
            if ranks > 1
            else 0.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerCost:
    """What a sampler's decoding step costs."""

    decoding: Line
    """Over rows."""
    most_rows: float = math.inf
    """That fit in at once."""

    def sample_s(
        self, *, samplers: int, tokens: float, longest: float, contention: float = 1.0
    ) -> float:
        """Return the seconds in which all replies are sampled.

        Args:
            samplers: How many.
            tokens: To be sampled, by all of them.
            longest: Tokens of the longest row, one after the other.
            contention: Factor on all of it.
        """
        each = tokens / samplers
        steps = max(longest, each / self.most_rows)
        return contention * (steps * self.decoding.fixed_s + each * self.decoding.each_s)


def transfer_s(
    size: float, *, ranks: int, machines: int, link: Link, copy: float, network: float
) -> float:
    """Return the seconds of the weights' way from the ranks to the samplers.

    Args:
        size: Bytes of the weights.
        ranks: That gather them.
        machines: With samplers, beside that of the first rank.
        link: Between ranks.
        copy: Bytes per second from a rank to its machine's store, and from there to a sampler.
        network: Bytes per second of a store from machine to machine.
    """
    hops = math.ceil(math.log2(machines + 1))
    gathered = link.ring_s(size, ranks=ranks, calls=1) if ranks > 1 else 0.0
    return gathered + 2 * size / copy + hops * size / network

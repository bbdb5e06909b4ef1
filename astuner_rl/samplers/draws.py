"""Random draws as pure functions of a completion's name and a token's position.

A generator that is advanced token by token would tie a draw to whatever was sampled before it.
Here the draw of a token is computed from (key, position) alone, so that neither the order in which
requests arrive nor the batch that they share can change it (invariant 7).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from astuner_rl.types import DrawKey

_INCREMENT = 0x9E3779B97F4A7C15
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9
_MULTIPLIER_2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1
_MANTISSA_BITS = 53


def draw_seed(key: DrawKey) -> int:
    """64-bit seed of a completion: the same in every process and on every machine.

    The fields are hashed as JSON, whose quoting keeps neighbouring strings apart: agents ``a`` and
    ``a1`` at calls 11 and 1 have different seeds.
    """
    episode = key.episode
    fields = [
        key.seed,
        episode.phase,
        episode.step,
        episode.task,
        episode.sample,
        key.agent,
        key.call,
    ]
    digest = hashlib.blake2b(json.dumps(fields).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def uniform(seed: int, position: int) -> float:
    """Draw number ``position`` of ``seed``, in [0, 1), with 53 random bits.

    It is element ``position`` of the SplitMix64 stream (Steele, Lea, Flood 2014, "Fast splittable
    pseudorandom number generators"), which can be computed without those before it. The stream of
    seed 0 begins with 0xE220A8397B1DCDAF, whose upper 53 bits make this number:

    >>> uniform(0, 0) == (0xE220A8397B1DCDAF >> 11) / 2**53
    True
    """
    state = (seed + (position + 1) * _INCREMENT) & _MASK
    state = ((state ^ (state >> 30)) * _MULTIPLIER_1) & _MASK
    state = ((state ^ (state >> 27)) * _MULTIPLIER_2) & _MASK
    state ^= state >> 31
    return (state >> (64 - _MANTISSA_BITS)) * 2.0**-_MANTISSA_BITS


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """``uniform`` of every pair: seeds [N], positions [N] -> [N], bit for bit the same numbers."""
    state = seeds + (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(_INCREMENT)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_MULTIPLIER_1)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_MULTIPLIER_2)
    state ^= state >> np.uint64(31)
    mantissa = state >> np.uint64(64 - _MANTISSA_BITS)
    draws: NDArray[np.float64] = mantissa.astype(np.float64) * 2.0**-_MANTISSA_BITS
    return draws

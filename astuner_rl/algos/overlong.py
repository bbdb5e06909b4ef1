"""Soft punishment of replies that come near the limit of their length."""

from __future__ import annotations

from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape


def overlong_penalty(lengths: Tensor, limits: Tensor, *, margin: int) -> Tensor:
    """Return 0 up to ``limit - margin`` tokens, falling linearly to -1 at the limit.

    DAPO (Yu et al. 2025, arXiv:2503.14476, equation 13): a reply that was cut says little about how
    good it was, so that a flat punishment would be noise; a slope tells the policy to be shorter.

    Args:
        lengths: [C] tokens of each reply.
        limits: [C] tokens that it might have had.
        margin: Tokens below the limit from which on a reply is punished; 0 punishes none.

    Returns:
        [C] float64.

    Example: limit 10, margin 4: replies of 6, 7, 8 and 10 tokens give ``[0, -.25, -.5, -1]``.
    """
    require_same_shape(lengths, limits)
    if margin == 0:
        return lengths.double() * 0.0
    return ((limits - margin - lengths).double() / margin).clamp(-1.0, 0.0)

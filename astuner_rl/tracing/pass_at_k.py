"""pass@k: how often at least one of k attempts solves a task."""

from __future__ import annotations

from math import comb


def pass_at_k(*, attempts: int, successes: int, k: int) -> float:
    """Return the unbiased estimate of pass@k for one task (Chen et al. 2021, equation 1).

    ``1 - C(n - c, k) / C(n, k)`` with ``n`` attempts and ``c`` successes: the share of all sets of
    ``k`` attempts that hold a success. With 4 attempts and 1 success, pass@2 is 3 of 6 pairs, 0.5.

    Raises:
        ValueError: Not ``1 <= k <= attempts``, or not ``0 <= successes <= attempts``.
    """
    if not 1 <= k <= attempts:
        raise ValueError(
            f"pass@k needs 1 <= k <= attempts, got k={k} of {attempts} attempts; "
            "sample each task at least k times"
        )
    if not 0 <= successes <= attempts:
        raise ValueError(f"successes must lie in [0, {attempts}], got {successes}")
    return 1 - comb(attempts - successes, k) / comb(attempts, k)

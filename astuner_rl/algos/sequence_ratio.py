"""The probability ratio of a whole reply, which GSPO clips instead of each token's."""

from __future__ import annotations

import torch
from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape


def sequence_log_ratio(logprobs: Tensor, old_logprobs: Tensor, call: Tensor) -> Tensor:
    """Return ``log s = mean over the call's tokens of (log pi - log pi_old)``, for every token.

    GSPO (Zheng et al. 2025, arXiv:2507.18071, equation 7), a sequence being one sampled reply. The
    surrogate then runs with ``s * pi / sg(pi)`` for each token's ratio (equation 14, GSPO-token),
    ``sg`` letting no gradient through: with one advantage for the whole reply and one weight for
    its tokens, value and gradient are those of the reply's own clipped term.

    Args:
        logprobs: [N] under the policy being trained, without gradient.
        old_logprobs: [N] under the policy that sampled.
        call: [N] int, call of each token.

    Returns:
        [N].

    Example: a reply of two tokens, each now ``e`` times as likely as when it was sampled, and one
    of a token that is as likely as before: ``[1, 1, 0]``. The probability of the first reply has
    risen ``e^2`` times; the mean keeps replies of all lengths within one bound.
    """
    require_same_shape(logprobs, old_logprobs, call)
    if call.numel() == 0:
        return logprobs.clone()
    calls = int(call.max()) + 1
    tokens = torch.bincount(call, minlength=calls).to(logprobs.dtype)
    sums = logprobs.new_zeros(calls).index_add(0, call, logprobs - old_logprobs)
    return (sums / tokens.clamp_min(1))[call]

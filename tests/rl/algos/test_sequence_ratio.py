"""GSPO's ratio of a reply, and that its token form has the gradient of the reply's own term."""

from __future__ import annotations

import pytest
import torch

from astuner_rl.algos.sequence_ratio import sequence_log_ratio
from astuner_rl.algos.surrogate import clipped_surrogate_loss


def floats(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_the_documented_example():
    ratio = sequence_log_ratio(floats(-1, -2, -3), floats(-2, -3, -3), torch.tensor([0, 0, 1]))
    assert ratio.tolist() == [1.0, 1.0, 0.0]


def test_no_token_has_no_ratio():
    empty = torch.zeros(0)
    assert sequence_log_ratio(empty, empty, torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_value_and_gradient_are_those_of_whole_replies():
    """Three replies: one within the bounds, one clipped, one that moved against its advantage."""
    call = torch.tensor([0, 0, 0, 1, 2, 2])
    old = floats(-1.0, -2.0, -0.5, -1.0, -2.0, -1.0)
    advantages = floats(2, 2, 2, 1, -1, -1)
    logprobs = floats(-0.98, -2.01, -0.47, -0.5, -1.5, -0.6).requires_grad_()

    weights = floats(*[1 / 9] * 3, 1 / 3, *[1 / 6] * 2)
    ratio = sequence_log_ratio(logprobs.detach(), old, call)
    clipped_surrogate_loss(
        logprobs,
        logprobs.detach() - ratio,
        advantages,
        weights,
        clip_low=0.1,
        clip_high=0.2,
    ).backward()

    by_reply = logprobs.detach().clone().requires_grad_()
    expected = torch.zeros((), dtype=torch.float64)
    for tokens, advantage in ((slice(0, 3), 2.0), (slice(3, 4), 1.0), (slice(4, 6), -1.0)):
        s = (by_reply[tokens] - old[tokens]).mean().exp()
        expected -= torch.minimum(s * advantage, s.clamp(0.9, 1.2) * advantage) / 3
    expected.backward()
    assert logprobs.grad is not None
    assert by_reply.grad is not None
    assert logprobs.grad.tolist() == pytest.approx(by_reply.grad.tolist(), abs=1e-12)
    assert logprobs.grad[3] == 0.0

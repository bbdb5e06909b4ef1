"""Divergence estimators against the exact divergence of small distributions."""

from __future__ import annotations

import pytest
import torch

from astuner_rl.algos.divergence import KlEstimator, kl_k1, kl_k2, kl_k3, kl_penalty

POLICY = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
REFERENCE = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
KL = float((POLICY * (POLICY / REFERENCE).log()).sum())


@pytest.mark.parametrize("estimate", [kl_k1, kl_k3])
def test_k1_and_k3_are_unbiased(estimate):
    expectation = (POLICY * estimate(POLICY.log(), REFERENCE.log())).sum().item()
    assert expectation == pytest.approx(KL, abs=1e-12)


def test_k2_is_half_the_squared_log_ratio():
    assert kl_k2(torch.tensor([-1.0]), torch.tensor([-3.0])).item() == 2.0


def test_k2_and_k3_are_never_negative_where_k1_is():
    logprobs, reference = torch.tensor([-2.0]), torch.tensor([-1.5])
    assert kl_k1(logprobs, reference).item() == -0.5
    assert kl_k2(logprobs, reference).item() > 0
    assert kl_k3(logprobs, reference).item() > 0


def test_k3_of_close_policies_keeps_its_digits_in_float32():
    value = kl_k3(torch.tensor([-1.0]), torch.tensor([-1.0 + 2**-10])).item()
    assert value == pytest.approx(2**-21, rel=1e-3)


def test_the_expected_gradient_of_k2_is_that_of_the_divergence():
    # d KL / d logits of a softmax policy, by autograd on the exact sum.
    logits = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    log_policy = logits.log_softmax(0)
    (log_policy.exp() * (log_policy - REFERENCE.log())).sum().backward()
    exact = logits.grad.clone()
    logits.grad = None
    log_policy = logits.log_softmax(0)
    # Weighting tokens by their (fixed) probability is the expectation over samples.
    kl_penalty(
        log_policy, REFERENCE.log(), log_policy.exp().detach(), estimator=KlEstimator.K2
    ).backward()
    assert torch.allclose(logits.grad, exact, atol=1e-12)


def test_the_penalty_is_the_weighted_sum():
    logprobs, reference = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -2.0])
    weights = torch.tensor([0.25, 0.75])
    assert kl_penalty(logprobs, reference, weights, estimator=KlEstimator.K2).item() == 0.5
    expected = 0.25 * kl_k3(logprobs, reference)[0].item()
    penalty = kl_penalty(logprobs, reference, weights, estimator=KlEstimator.K3)
    assert penalty.item() == pytest.approx(expected)

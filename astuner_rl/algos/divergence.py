"""Estimators of ``KL(pi || pi_ref)`` from tokens sampled by ``pi``.

Schulman, "Approximating KL divergence" (joschu.net/blog/kl-approx.html, 2020). With
``log r = log pi_ref - log pi`` at a sampled token: ``k1 = -log r`` is unbiased but noisy and may be
negative, ``k2 = (log r)^2 / 2`` is biased and never negative, ``k3 = r - 1 - log r`` is unbiased
and never negative.
"""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor

from astuner_rl.algos.shapes import require_same_shape


class KlEstimator(StrEnum):
    """Which estimate a penalty differentiates.

    ``k1`` is not among them: its gradient at the sampled tokens is that of ``log pi`` alone, whose
    mean is 0 whatever the reference.
    """

    K2 = "k2"
    """Its expected gradient is that of the true divergence."""
    K3 = "k3"
    """The penalty of GRPO as published (arXiv:2402.03300, equation 4)."""


def kl_k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Return ``log pi - log pi_ref``, [N]."""
    require_same_shape(logprobs, reference_logprobs)
    return logprobs - reference_logprobs


def kl_k2(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Return ``(log pi - log pi_ref)^2 / 2``, [N]."""
    return kl_k1(logprobs, reference_logprobs).square() / 2


def kl_k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Return ``r - 1 - log r`` with ``r = pi_ref / pi``, [N]."""
    log_ratio = -kl_k1(logprobs, reference_logprobs)
    # expm1 keeps the digits that exp(x) - 1 loses where the two policies are close.
    return log_ratio.expm1() - log_ratio


def kl_penalty(
    logprobs: Tensor, reference_logprobs: Tensor, weights: Tensor, *, estimator: KlEstimator
) -> Tensor:
    """Return ``sum_t w_t k(t)``, the divergence from a reference policy as a loss, [].

    Args:
        logprobs: [N] under the policy being trained.
        reference_logprobs: [N] under the frozen reference.
        weights: [N].
        estimator: Which estimate to differentiate.
    """
    estimate = kl_k2 if estimator is KlEstimator.K2 else kl_k3
    divergence = estimate(logprobs, reference_logprobs)
    require_same_shape(divergence, weights)
    return (weights * divergence).sum()

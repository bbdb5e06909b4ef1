"""From logits and uniform draws to tokens and their log-probs."""

from __future__ import annotations

import torch


def sample_tokens(
    logits: torch.Tensor, *, temperatures: torch.Tensor, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample one token a row by inverting the cumulative distribution.

    The token is the first whose cumulative probability exceeds the draw. All of it is float64 and
    row by row, so that a row's token does not depend on the rows beside it. Worked example: with
    probabilities [0.1, 0.2, 0.7], draws 0.05, 0.1, 0.29 and 0.3 give tokens 0, 1, 1 and 2.

    Args:
        logits: [N, V] of any float type.
        temperatures: [N] float64; logits are divided by it; 0 takes the most likely token.
        uniforms: [N] float64 in [0, 1).

    Returns:
        Tokens [N] int64, and their log-probs [N] float64 under the distribution sampled from
        (0 where the temperature is 0). A row with a logit that is NaN or +inf has log-prob NaN.
    """
    greedy = temperatures == 0
    scaled = logits.double().div_(torch.where(greedy, 1.0, temperatures)[:, None])
    peak, most_likely = scaled.max(-1)
    cumulative = (scaled - peak[:, None]).exp_().cumsum(-1)
    total = cumulative[:, -1].contiguous()
    # Rounding may carry a draw just below 1 to the total itself, past every token.
    target = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    drawn = torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
    # A row of NaN has no token; it gets the last one here, and a log-prob of NaN.
    tokens = torch.where(greedy, most_likely, drawn.clamp_(max=logits.shape[1] - 1))
    logprobs = scaled.gather(1, tokens[:, None])[:, 0] - peak - total.log()
    finite = torch.isfinite(total)
    return tokens, torch.where(greedy & finite, 0.0, logprobs)

"""A policy for RLlib's PPO that never samples what its observation's ``action_mask`` forbids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from astuner_gym.adapters.rllib import MASK

FORBIDDEN = torch.finfo(torch.float32).min / 2
"""A logit whose probability is 0 and whose entropy is no NaN, as minus infinity's would be."""


class MaskedActorCritic(TorchRLModule, ValueFunctionAPI):
    """Two networks of two hidden layers: one for the logits and one for the value."""

    def setup(self) -> None:
        """Make the networks; ``model_config["hidden"]`` is the width of their layers."""
        features = self.observation_space["observations"].shape[0]
        hidden = self.model_config["hidden"]
        self._actor = _network(features, hidden, int(self.action_space.n), last_scale=0.01)
        self._critic = _network(features, hidden, 1, last_scale=1.0)

    def _forward(self, batch: Mapping[str, Any], **_: Any) -> dict[str, Tensor]:
        """Return logits [B, actions], those of forbidden actions at ``FORBIDDEN``."""
        seen = batch[Columns.OBS]
        logits = self._actor(seen["observations"])
        return {Columns.ACTION_DIST_INPUTS: logits.masked_fill(seen[MASK] == 0, FORBIDDEN)}

    def compute_values(self, batch: Mapping[str, Any], embeddings: Any | None = None) -> Tensor:
        """Return the values [B]."""
        return self._critic(batch[Columns.OBS]["observations"]).squeeze(-1)  # type: ignore[no-any-return]


def _network(inputs: int, hidden: int, outputs: int, *, last_scale: float) -> nn.Sequential:
    last = nn.Linear(hidden, outputs)
    with torch.no_grad():
        last.weight.mul_(last_scale)
        last.bias.zero_()
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), last
    )

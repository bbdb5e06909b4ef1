"""Settings of the algorithms are checked before anything starts."""

from __future__ import annotations

import math

import pytest
from omegaconf import OmegaConf

from astuner_gym.errors import SettingError
from astuner_rl.algos.config import GrpoConfig, PpoConfig


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [
        ("aggregation", "row", "must be one of .*episode.*got 'row'"),
        ("kl_estimator", "k1", "must be one of .*k2.*got 'k1'"),
        ("clip_low", 1.5, "between 0.0 and 1.0, got 1.5"),
        ("clip_high", -0.1, "got -0.1"),
        ("lr", math.nan, "got nan"),
        ("lr", 1e38, r"between 0.0 and 1e\+30, got 1e\+38"),
        ("decay", "exponential", "must be one of .*linear.*got 'exponential'"),
        ("max_grad_norm", 0.0, "> 0, got 0.0"),
        ("epochs", 0, "got 0"),
        ("minibatches", 0, "got 0"),
        ("microbatch_tokens", 0, "got 0"),
    ],
)
@pytest.mark.parametrize("config", [GrpoConfig, PpoConfig])
def test_a_bad_value_is_refused_with_its_rule(config, setting, value, rule):
    with pytest.raises(SettingError, match=rf"algo\.{setting} .*{rule}"):
        config(**{setting: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("critic_lr", -1.0), ("discount", 1.1), ("trace_decay", -0.1), ("value_clip", 0.0)],
)
def test_ppo_checks_its_own_settings_too(setting, value):
    with pytest.raises(SettingError, match=setting):
        PpoConfig(**{setting: value})


def test_grpo_refuses_a_group_of_one():
    with pytest.raises(SettingError, match=r"group_size must be >= 2.*got 1.*train\.group_size=2"):
        GrpoConfig().require_group_size(1)
    GrpoConfig().require_group_size(2)


def test_hydra_overrides_reach_the_check():
    composed = OmegaConf.merge(
        OmegaConf.structured(GrpoConfig), OmegaConf.from_dotlist(["aggregation=row", "lr=3e-4"])
    )
    with pytest.raises(SettingError, match="aggregation"):
        OmegaConf.to_object(composed)

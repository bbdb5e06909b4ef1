"""Samplers: from prompt tokens to sampled tokens with their log-probs.

What is exported here needs no torch; ``astuner_rl.samplers.transformers`` has the embedded sampler.
"""

from __future__ import annotations

from astuner_rl.samplers.draws import draw_seed, uniform
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.samplers.scripted import ScriptedAnswer, ScriptedSampler

__all__ = ["Sampler", "ScriptedAnswer", "ScriptedSampler", "draw_seed", "uniform"]

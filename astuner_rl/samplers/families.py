"""Which Hugging Face models compute a token from its own context alone, by known attention.

Their attention can be replaced (by the sampler's slots, by the learner's tree) without a change of
what they compute. Others have recurrent layers, attention sinks, or angles that depend on the
length of the row.
"""

from __future__ import annotations

from transformers import PretrainedConfig

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings in which a position's angle does not depend on the other tokens of a batch."""


def misfit(shape: PretrainedConfig) -> str | None:
    """Return why a model of this text configuration is none of these; None if it is one."""
    if shape.model_type not in MODEL_TYPES:
        return f"the model's type must be one of {', '.join(MODEL_TYPES)}, got {shape.model_type}"
    rope_type = shape.rope_parameters["rope_type"]
    if rope_type not in ROPE_TYPES:
        return (
            f"rope_type must be one of {', '.join(ROPE_TYPES)}, got {rope_type}, whose angles "
            "depend on the longest sequence of a batch"
        )
    return None

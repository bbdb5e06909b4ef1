"""A trained policy as an AgentScope chat model, to be used in any AgentScope program."""

from __future__ import annotations

from pathlib import Path

from astuner_gym.chat.model import AgentChatModel
from astuner_gym.errors import UnusableInputError
from astuner_rl.assembly import build_renderer, build_sampler
from astuner_rl.learning.checkpoint import latest_checkpoint, load_checkpoint
from astuner_rl.learning.pretrained import load_pretrained
from astuner_rl.samplers.transformers import TransformersSamplerConfig
from astuner_rl.tracing.run_folder import open_run_folder
from astuner_rl.tracking.tracker import TokenPolicy
from astuner_rl.types import EpisodeKey, SamplingParams

MAX_CALLS = 1_000_000
"""Calls that a loaded model answers: a program of the user's has no budget."""


def trained_model_folder(run: Path) -> Path:
    """Return the Hugging Face folder of a run's last whole checkpoint.

    Raises:
        UnusableInputError: The folder is no run, or has no whole checkpoint.
        CheckpointError: The checkpoint cannot be read.
    """
    folder = open_run_folder(run, cwd=Path.cwd())
    path = latest_checkpoint(folder.checkpoints)
    if path is None:
        raise UnusableInputError(
            f"{folder.path}: a trained model is in a whole checkpoint, and this run has none; "
            "name a run that has trained, or go on with this one by run.resume"
        )
    return load_checkpoint(path).model


def load_chat_model(
    path: str,
    *,
    agent: str,
    temperature: float = 0.0,
    max_tokens: int = 256,
    context_length: int = 1024,
    seed: int = 0,
) -> AgentChatModel:
    """Return a policy as the chat model of one agent, sampled in this process.

    Args:
        path: A run folder, whose last checkpoint is loaded, or any Hugging Face folder or hub id.
        agent: Name of the AgentScope agent that will use it.
        temperature: Divides the logits; 0 is greedy.
        max_tokens: Tokens of one reply, at most.
        context_length: Tokens of prompt and reply together, at most.
        seed: Names the draws.

    Raises:
        UnusableInputError: There is no model at ``path``.
    """
    is_run = (Path(path) / "checkpoints").is_dir()
    pretrained = load_pretrained(str(trained_model_folder(Path(path))) if is_run else path)
    renderer = build_renderer(pretrained)
    sampler = build_sampler(
        TransformersSamplerConfig(context_length=context_length, max_sessions=4),
        pretrained,
        renderer,
        policy_version=0,
    )
    tracker = TokenPolicy(renderer=renderer, sampler=sampler, seed=seed).open(
        EpisodeKey(phase="use", step=0, task=0, sample=0),
        params=SamplingParams(temperature=temperature, max_tokens=max_tokens),
        max_calls=MAX_CALLS,
    )
    return AgentChatModel(agent, agent, tracker, context_size=context_length)

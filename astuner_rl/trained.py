"""A trained policy as an AgentScope chat model, to be used in any AgentScope program."""

from __future__ import annotations

from pathlib import Path

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.chat.model import AgentChatModel
from astuner_gym.errors import UnusableInputError
from astuner_rl.assembly import build_renderer, build_sampler
from astuner_rl.learning.checkpoint import latest_checkpoint, load_checkpoint
from astuner_rl.learning.pretrained import load_pretrained
from astuner_rl.rendering.history import ChatHistory
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.samplers.protocol import CompletionSource
from astuner_rl.samplers.transformers import TransformersSamplerConfig
from astuner_rl.tracing.run_folder import open_run_folder
from astuner_rl.types import DrawKey, EpisodeKey, SamplingParams

MOST_CALLS = 256
"""Calls that a loaded model remembers; what a program of the user's says has no end."""
_KEY = EpisodeKey(phase="use", step=0, task=0, sample=0)


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
    speaker = _Speaker(
        renderer,
        sampler,
        params=SamplingParams(temperature=temperature, max_tokens=max_tokens),
        seed=seed,
    )
    return AgentChatModel(agent, agent, speaker, context_size=context_length)


class _Speaker:
    """Answers the calls of one agent and keeps no record of them: its episode never ends."""

    def __init__(
        self,
        renderer: ChatRenderer,
        sampler: CompletionSource,
        *,
        params: SamplingParams,
        seed: int,
    ) -> None:
        self._sampler = sampler
        self._params = params
        self._seed = seed
        self._history = ChatHistory(renderer, most_calls=MOST_CALLS)

    async def respond(self, call: ChatCall) -> ChatReply:
        """Render, sample and parse one call.

        Raises:
            ContextOverflowError: The prompt leaves no room for a reply.
            RenderingError: The chat template refuses the messages.
        """
        prompt = self._history.render(call)
        completion = await self._sampler.generate(
            prompt.token_ids,
            params=self._params,
            key=DrawKey(seed=self._seed, episode=_KEY, agent=call.agent, call=call.index),
        )
        return self._history.record_completion(call, prompt, completion.token_ids)

"""Small random policies, and agent-episodes whose tokens they sampled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import pytest
import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from astuner_rl.types import AgentEpisode, EpisodeKey, SampledSpan, SamplingParams, Timeline

VOCABULARY = 24


@dataclass(frozen=True)
class ScriptedCall:
    """What a call adds to its agent's conversation: context, then a reply."""

    context: int
    reply: int
    temperature: float = 1.0


class EpisodeBuilder:
    """Builds agent-episodes of random tokens with the log-probs that a policy gives them."""

    def __init__(self, policy: PreTrainedModel, *, seed: int = 0) -> None:
        self._policy = policy
        self._random = Random(seed)

    def build(
        self,
        calls: Sequence[ScriptedCall],
        *,
        reward: float = 0.0,
        task: int = 0,
        sample: int = 0,
        role: str = "solver",
        truncated: bool = False,
    ) -> AgentEpisode:
        """Return an agent-episode whose calls all extend each other, in one timeline."""
        token_ids: list[int] = []
        places = []
        for call in calls:
            token_ids += [self._random.randrange(VOCABULARY) for _ in range(call.context)]
            start = len(token_ids)
            token_ids += [self._random.randrange(VOCABULARY) for _ in range(call.reply)]
            places.append((start, len(token_ids), call.temperature))
        with torch.no_grad():
            logits = self._policy(torch.tensor([token_ids])).logits[0]
        spans = []
        for index, (start, stop, temperature) in enumerate(places):
            distribution = (logits / temperature).log_softmax(-1)
            spans.append(
                SampledSpan(
                    call=index,
                    start=start,
                    stop=stop,
                    logprobs=tuple(
                        distribution[t - 1, token_ids[t]].item() for t in range(start, stop)
                    ),
                    params=SamplingParams(temperature=temperature),
                )
            )
        return AgentEpisode(
            episode=EpisodeKey(phase="train", step=0, task=task, sample=sample),
            agent=role,
            role=role,
            reward=reward,
            truncated=truncated,
            timelines=(Timeline(token_ids=tuple(token_ids), spans=tuple(spans)),),
        )

    def group(self, rewards: Sequence[float], *, task: int = 0) -> list[AgentEpisode]:
        """Return one group: an agent-episode of one or two short calls for each reward."""
        episodes = []
        for sample, reward in enumerate(rewards):
            calls = [
                ScriptedCall(self._random.randint(1, 5), self._random.randint(1, 6))
                for _ in range(self._random.randint(1, 2))
            ]
            episodes.append(self.build(calls, reward=reward, task=task, sample=sample))
        return episodes


def cut(episode: AgentEpisode, row_of_call: Sequence[int]) -> AgentEpisode:
    """Spread the calls of a one-timeline episode over rows; the tokens of others are context.

    Args:
        episode: With one timeline.
        row_of_call: The row of each call; rows are ordered by number.
    """
    (timeline,) = episode.timelines
    timelines = []
    for row in sorted(set(row_of_call)):
        spans = tuple(
            span for span, mine in zip(timeline.spans, row_of_call, strict=True) if mine == row
        )
        timelines.append(Timeline(token_ids=timeline.token_ids[: spans[-1].stop], spans=spans))
    return replace(episode, timelines=tuple(timelines))


@pytest.fixture
def cut_episode() -> Callable[[AgentEpisode, Sequence[int]], AgentEpisode]:
    return cut


@pytest.fixture
def scripted_call() -> type[ScriptedCall]:
    return ScriptedCall


@pytest.fixture(scope="session")
def episode_builder() -> type[EpisodeBuilder]:
    return EpisodeBuilder


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., PreTrainedModel]:
    """Return a maker of two-layer Qwen2 policies with tied embeddings."""

    def make(*, seed: int = 0) -> PreTrainedModel:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            policy = Qwen2ForCausalLM(
                Qwen2Config(
                    vocab_size=VOCABULARY,
                    hidden_size=16,
                    intermediate_size=32,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    max_position_embeddings=128,
                    initializer_range=0.3,
                    tie_word_embeddings=True,
                )
            )
        return policy.eval()

    return make


def in_float64(model: PreTrainedModel) -> PreTrainedModel:
    """Make a model compute in float64 throughout, where its norms would drop to float32.

    Rotary angles may stay in float32: they are functions of the position, equal in every layout.
    """
    model = model.double().eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, LlamaRMSNorm | MistralRMSNorm | Qwen2RMSNorm | Qwen3RMSNorm):
            norm = nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon, dtype=torch.float64)
            norm.load_state_dict(module.state_dict())
            model.set_submodule(name, norm)
    return model


@pytest.fixture(scope="session")
def exact_policy(make_policy: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    """A float64 policy, to be copied before it is trained."""
    return in_float64(make_policy())


FAMILY_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**FAMILY_SHAPE)),
    "llama, yarn": lambda: LlamaForCausalLM(
        LlamaConfig(
            **FAMILY_SHAPE,
            rope_parameters={
                "rope_type": "yarn",
                "factor": 4.0,
                "rope_theta": 10000.0,
                "original_max_position_embeddings": 32,
            },
        )
    ),
    "mistral, sliding": lambda: MistralForCausalLM(MistralConfig(**FAMILY_SHAPE, sliding_window=4)),
    "qwen2, one layer sliding": lambda: Qwen2ForCausalLM(
        Qwen2Config(**FAMILY_SHAPE, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    ),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**FAMILY_SHAPE)),
}


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A float32 model of each family that is trained as a tree, to be copied before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FAMILIES[request.param]().eval()


@pytest.fixture(scope="session")
def exact_family(family: PreTrainedModel) -> PreTrainedModel:
    """The same model in float64 throughout."""
    return in_float64(copy.deepcopy(family))

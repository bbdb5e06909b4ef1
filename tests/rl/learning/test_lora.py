"""LoRA: adapters alone are trained and kept, and what a sampler gets computes the same."""

from __future__ import annotations

import asyncio
import copy

import pytest
import torch

from astuner_gym.errors import SettingError
from astuner_rl.algos.config import GrpoConfig, PpoConfig
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.learning.lora import Lora, save_adapters, with_adapters
from astuner_rl.learning.policy import Policy
from astuner_rl.learning.ppo import PpoLearner
from astuner_rl.learning.process_ranks import ProcessRanks
from astuner_rl.samplers.transformers import TransformersSampler, TransformersSamplerConfig

peft = pytest.importorskip("peft")
LORA = Lora(rank=2, alpha=4)
TOKENS = torch.tensor([[1, 2, 3, 4, 5]])


def logprobs(model) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits.float().log_softmax(-1)


def test_a_model_with_new_adapters_computes_what_it_did(make_policy):
    policy = make_policy()
    assert torch.equal(logprobs(with_adapters(policy, LORA)), logprobs(policy))
    assert all(parameter.requires_grad for parameter in policy.parameters())


def test_adapters_are_drawn_alike_and_leave_the_random_state_alone(make_policy):
    policy = make_policy()
    state = torch.random.get_rng_state()
    first = with_adapters(policy, LORA).state_dict()
    torch.manual_seed(7)
    second = with_adapters(policy, LORA).state_dict()
    torch.random.set_rng_state(state)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize(
    ("learner", "config"), [(GrpoLearner, GrpoConfig), (PpoLearner, PpoConfig)]
)
def test_adapters_are_trained_kept_merged_and_resumed(
    learner, config, dtype, make_policy, episode_builder
):
    policy = make_policy()
    before = copy.deepcopy(policy)
    episodes = episode_builder(policy).group([0.0, 1.0, 1.0])
    settings = config(lr=0.01, kl_coefficient=0.1)
    first = learner(policy, settings, dtype=dtype, lora=LORA)
    first.update(episodes)
    state = copy.deepcopy(first.state_dict())
    kept = state["policy"]["model"]
    assert all("lora_" in name for name in kept)
    assert len(state["policy"]["optimizer"]["adamw"]["state"]) == len(kept)

    # The model that was given holds the merged weights, from which samplers and folders are made.
    adapted = logprobs(first._policy._trained.model)
    gap = 1e-5 if dtype is None else 0.2
    assert torch.allclose(logprobs(policy), adapted, rtol=0, atol=gap)
    assert (adapted - logprobs(before)).abs().max() > 2 * gap
    assert all(torch.equal(first.weights()[name], one) for name, one in policy.state_dict().items())
    assert first.update(episodes).metrics["policy/logprob_gap_max"] > 0

    second = learner(copy.deepcopy(before), settings, dtype=dtype, lora=LORA)
    second.load_state_dict(state)
    second.update(episodes)
    for name, weight in first.weights().items():
        assert torch.equal(weight, second.weights()[name]), name


def test_peft_loads_the_adapters_beside_the_base(tmp_path, make_policy, episode_builder):
    policy = make_policy()
    base = copy.deepcopy(policy)
    learner = GrpoLearner(policy, GrpoConfig(lr=0.01), lora=LORA)
    learner.update(episode_builder(policy).group([0.0, 1.0, 1.0]))
    adapters = learner.adapters()
    assert adapters is not None
    save_adapters(adapters, tmp_path)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    assert torch.allclose(logprobs(loaded), logprobs(policy), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_sampler_that_gets_adapters_alone_holds_the_merged_weights(
    dtype, make_policy, episode_builder
):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0, 1.0])
    learner = GrpoLearner(policy, GrpoConfig(lr=0.01), dtype=dtype, lora=LORA)
    learner.update(episodes)  # a run that is resumed begins with merged weights

    async def hand_over():
        sampler = TransformersSampler(
            policy,
            stop_token_ids=[1],
            pad_token_id=0,
            config=TransformersSamplerConfig(context_length=16, max_sessions=2, threads=1),
        )
        await sampler.load_weights(learner.handover(whole=True), version=1)
        for version in (2, 3):
            learner.update(episodes)
            weights = learner.handover(whole=False)
            assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in weights)
            await sampler.load_weights(weights, version=version)
        own = sampler._model.state_dict()
        await sampler.close()
        return own

    before = {name: weight.clone() for name, weight in learner.weights().items()}
    own = asyncio.run(hand_over())
    for name, weight in learner.weights().items():
        assert torch.equal(own[name], weight), name
        assert torch.equal(before[name], weight) == ("proj.weight" not in name), name


def test_without_adapters_all_weights_are_handed_over(make_policy):
    learner = GrpoLearner(make_policy(), GrpoConfig())
    assert learner.handover(whole=False).keys() == learner.weights().keys()


def test_without_adapters_there_are_none(make_policy):
    assert GrpoLearner(make_policy(), GrpoConfig()).adapters() is None


def test_several_ranks_are_refused(make_policy):
    ranks = ProcessRanks.__new__(ProcessRanks)  # nothing is asked of them
    with pytest.raises(SettingError, match="one process, got ProcessRanks"):
        Policy(
            make_policy(),
            GrpoConfig(),
            schedule=lambda _: 1.0,
            layout=lambda rows, *, microbatch_tokens: [],
            ranks=ranks,
            lora=LORA,
        )

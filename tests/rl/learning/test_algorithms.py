"""Each ``algo=`` without a critic against its paper's formula, written out call by call."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from astuner_rl.algos.config import GrpoConfig
from astuner_rl.composition import compose_experiment
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.types import AgentEpisode

LR = 1e-3


def config_of(algorithm: str) -> GrpoConfig:
    """The settings of ``conf/algo/<algorithm>.yaml``, but for the learning rate."""
    composed = compose_experiment([f"algo={algorithm}", "model=hf", "model.path=unused"]).algo
    assert isinstance(composed, GrpoConfig)
    return replace(composed, lr=LR)


@dataclass
class Reply:
    """One call's tokens under the policy, with gradient, and as they were sampled."""

    logprobs: Tensor
    sampled: Tensor
    limit: int

    @property
    def ratios(self) -> Tensor:
        return (self.logprobs - self.sampled).exp()


Played = list[tuple[AgentEpisode, list[Reply]]]


def replies(policy: PreTrainedModel, episode: AgentEpisode) -> list[Reply]:
    found = []
    for timeline in episode.timelines:
        for span in timeline.spans:
            logits = policy(torch.tensor([timeline.token_ids[: span.stop]])).logits[0]
            logprobs = (logits / span.params.temperature).log_softmax(-1)
            tokens = range(span.start, span.stop)
            found.append(
                Reply(
                    torch.stack([logprobs[t - 1, timeline.token_ids[t]] for t in tokens]),
                    torch.tensor(span.logprobs, dtype=torch.float64),
                    span.params.max_tokens,
                )
            )
    return found


def group_rewards(played: Played, episode: AgentEpisode) -> list[float]:
    return [other.reward for other, _ in played if other.episode.task == episode.episode.task]


def clipped(ratio: Tensor, advantage: float, low: float, high: float) -> Tensor:
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def grpo(played: Played) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for episode, calls in played:
        rewards = group_rewards(played, episode)
        deviation = statistics.pstdev(rewards) + 1e-6
        advantage = (episode.reward - statistics.fmean(rewards)) / deviation
        ratios = torch.cat([reply.ratios for reply in calls])
        total -= clipped(ratios, advantage, 0.2, 0.2).mean() / len(played)
    return total


def dr_grpo(played: Played) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for episode, calls in played:
        advantage = episode.reward - statistics.fmean(group_rewards(played, episode))
        ratios = torch.cat([reply.ratios for reply in calls])
        total -= clipped(ratios, advantage, 0.2, 0.2).sum() / 256 / len(played)
    return total


def dapo(played: Played) -> Tensor:
    """Every reply has at most 6 tokens of 10, of which the last 16 are punished: all are."""

    def shaped(episode: AgentEpisode, calls: list[Reply]) -> float:
        punished = [max(-1.0, (c.limit - 16 - len(c.logprobs)) / 16) for c in calls]
        return episode.reward + min(punished)

    rewarded = [(replace(e, reward=shaped(e, calls)), calls) for e, calls in played]
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for episode, calls in rewarded:
        rewards = group_rewards(rewarded, episode)
        deviation = statistics.pstdev(rewards) + 1e-6
        advantage = (episode.reward - statistics.fmean(rewards)) / deviation
        ratios = torch.cat([reply.ratios for reply in calls])
        total -= clipped(ratios, advantage, 0.2, 0.28).sum()
        tokens += len(ratios)
    return total / tokens


def gspo(played: Played) -> Tensor:
    total, count = torch.zeros((), dtype=torch.float64), 0
    for episode, calls in played:
        rewards = group_rewards(played, episode)
        deviation = statistics.pstdev(rewards) + 1e-6
        advantage = (episode.reward - statistics.fmean(rewards)) / deviation
        for reply in calls:
            ratio = (reply.logprobs - reply.sampled).mean().exp()
            total -= clipped(ratio, advantage, 3e-4, 4e-4)
            count += 1
    return total / count


def cispo(played: Played) -> Tensor:
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for episode, calls in played:
        rewards = group_rewards(played, episode)
        deviation = statistics.pstdev(rewards) + 1e-6
        advantage = (episode.reward - statistics.fmean(rewards)) / deviation
        for reply in calls:
            bounded = reply.ratios.detach().clamp(0.0, 2.0)
            total -= (bounded * advantage * reply.logprobs).sum()
            tokens += len(reply.logprobs)
    return total / tokens


def rloo(played: Played) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for episode, calls in played:
        rewards = group_rewards(played, episode)
        others = (sum(rewards) - episode.reward) / (len(rewards) - 1)
        ratios = torch.cat([reply.ratios for reply in calls])
        total -= clipped(ratios, episode.reward - others, 0.2, 0.2).mean() / len(played)
    return total


def reinforce_pp(played: Played) -> Tensor:
    by_token = [e.reward for e, calls in played for reply in calls for _ in reply.logprobs]
    mean, deviation = statistics.fmean(by_token), (statistics.pvariance(by_token) + 1e-8) ** 0.5
    total = torch.zeros((), dtype=torch.float64)
    for episode, calls in played:
        ratios = torch.cat([reply.ratios for reply in calls])
        total -= clipped(ratios, (episode.reward - mean) / deviation, 0.2, 0.2).sum()
    return total / len(by_token)


ORACLES: dict[str, Callable[[Played], Tensor]] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "dapo": dapo,
    "gspo": gspo,
    "cispo": cispo,
    "rloo": rloo,
    "reinforce_pp": reinforce_pp,
}


def two_groups(builder, *, seed: int = 0) -> list[AgentEpisode]:
    """Episodes whose rewards differ in each group, sampled by a policy that is near ours."""
    episodes = [
        *builder.group([1.0, 0.0, 0.25], task=0),
        *builder.group([0.0, 0.0, 2.0], task=1),
    ]
    generator = torch.Generator().manual_seed(seed)
    return [drifted(episode, generator) for episode in episodes]


def drifted(episode: AgentEpisode, generator: torch.Generator) -> AgentEpisode:
    """The episode as a policy whose log-probs differ by up to 0.5 would have recorded it."""
    timelines = []
    for timeline in episode.timelines:
        spans = []
        for span in timeline.spans:
            noise = torch.rand(len(span.logprobs), generator=generator, dtype=torch.float64) - 0.5
            recorded = (torch.tensor(span.logprobs, dtype=torch.float64) + noise).tolist()
            params = replace(span.params, max_tokens=10)
            spans.append(replace(span, logprobs=tuple(recorded), params=params))
        timelines.append(replace(timeline, spans=tuple(spans)))
    return replace(episode, timelines=tuple(timelines))


@pytest.mark.parametrize("algorithm", ORACLES)
def test_an_update_is_a_step_along_the_papers_formula(algorithm, exact_policy, episode_builder):
    policy, plain = copy.deepcopy(exact_policy), copy.deepcopy(exact_policy)
    episodes = two_groups(episode_builder(policy))

    optimizer = torch.optim.AdamW(plain.parameters(), lr=LR, weight_decay=0.0)
    loss = ORACLES[algorithm]([(episode, replies(plain, episode)) for episode in episodes])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
    optimizer.step()

    learner = GrpoLearner(policy, config_of(algorithm))
    metrics = learner.update(episodes).metrics
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-10)
    for name, weight in learner.weights().items():
        assert torch.allclose(weight, plain.state_dict()[name], rtol=0, atol=1e-8), name


@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 99), microbatch_tokens=st.integers(1, 60))
@pytest.mark.parametrize("algorithm", ORACLES)
def test_no_cut_matters_to_any_algorithm(
    algorithm, exact_policy, episode_builder, seed, microbatch_tokens
):
    episodes = two_groups(episode_builder(exact_policy, seed=seed), seed=seed)
    config = config_of(algorithm)
    whole = GrpoLearner(copy.deepcopy(exact_policy), config)
    cut = GrpoLearner(
        copy.deepcopy(exact_policy), replace(config, microbatch_tokens=microbatch_tokens)
    )
    assert whole.update(episodes).metrics["loss"] == pytest.approx(
        cut.update(episodes).metrics["loss"], rel=1e-12, abs=1e-10
    )
    for name, weight in whole.weights().items():
        assert torch.allclose(weight, cut.weights()[name], rtol=0, atol=1e-9), name


@pytest.mark.parametrize("importance", ["truncate", "mask"])
def test_a_sampler_that_differs_is_corrected_for(importance, exact_policy, episode_builder):
    """At the first step ratios to the policy before it are 1, and weights alone scale the loss."""
    policy, plain = copy.deepcopy(exact_policy), copy.deepcopy(exact_policy)
    episodes = two_groups(episode_builder(policy))
    bound = 1.2
    total, corrected, tokens = torch.zeros((), dtype=torch.float64), 0, 0
    played = [(episode, replies(plain, episode)) for episode in episodes]
    for episode, calls in played:
        rewards = group_rewards(played, episode)
        deviation = statistics.pstdev(rewards) + 1e-6
        advantage = (episode.reward - statistics.fmean(rewards)) / deviation
        ratios = torch.cat([reply.ratios for reply in calls]).detach()
        logprobs = torch.cat([reply.logprobs for reply in calls])
        outside = (ratios > bound) | ((ratios < 1 / bound) if importance == "mask" else False)
        kept = torch.where(outside, bound if importance == "truncate" else 0.0, ratios)
        total -= (kept * advantage * (logprobs - logprobs.detach()).exp()).mean() / len(played)
        corrected += int(outside.sum())
        tokens += len(ratios)
    total.backward()

    config = GrpoConfig(lr=LR, importance=importance, importance_bound=bound)
    metrics = GrpoLearner(policy, config).update(episodes).metrics
    assert metrics["loss"] == pytest.approx(total.item(), abs=1e-10)
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 1e9)
    assert metrics["policy/grad_norm"] == pytest.approx(norm.item(), rel=1e-9)
    assert metrics["policy/importance_bounded"] == pytest.approx(corrected / tokens)
    assert metrics["policy/logprob_gap_max"] == pytest.approx(
        max((r.logprobs - r.sampled).abs().max().item() for _, calls in played for r in calls)
    )


def test_tokens_that_the_correction_masks_are_not_trained(exact_policy, episode_builder):
    """The sampler said other log-probs: ratios of 3, and so of no token within the bound."""
    episodes = [
        said(episode, lower_by=math.log(3))
        for episode in episode_builder(exact_policy).group([1.0, 0.0, 0.5])
    ]
    before = {name: weight.clone() for name, weight in exact_policy.state_dict().items()}
    learner = GrpoLearner(exact_policy, GrpoConfig(lr=LR, importance="mask", importance_bound=2.0))
    metrics = learner.update(episodes).metrics
    sampled = [sampled_tokens(episode) for episode in episodes]
    assert metrics["tokens/trained"] == 0
    assert metrics["tokens/masked/importance"] == sampled[0] + sampled[1]
    assert metrics["tokens/masked/zero_advantage"] == sampled[2]
    for name, weight in learner.weights().items():
        assert torch.equal(weight, before[name]), name


def said(episode: AgentEpisode, *, lower_by: float) -> AgentEpisode:
    """The episode with other log-probs of its sampler."""
    (timeline,) = episode.timelines
    spans = tuple(
        replace(span, logprobs=tuple(each - lower_by for each in span.logprobs))
        for span in timeline.spans
    )
    return replace(episode, timelines=(replace(timeline, spans=spans),))


def sampled_tokens(episode: AgentEpisode) -> int:
    return sum(len(span.logprobs) for span in episode.timelines[0].spans)


def test_a_sampler_that_agrees_needs_no_correction(exact_policy, episode_builder):
    episodes = episode_builder(exact_policy).group([1.0, 0.0, 0.5])
    plain = GrpoLearner(copy.deepcopy(exact_policy), GrpoConfig(lr=LR))
    corrected = GrpoLearner(copy.deepcopy(exact_policy), GrpoConfig(lr=LR, importance="truncate"))
    plain.update(episodes)
    metrics = corrected.update(episodes).metrics
    assert metrics["policy/importance"] == pytest.approx(1.0, abs=1e-12)
    assert metrics["policy/importance_bounded"] == 0.0
    for name, weight in plain.weights().items():
        assert torch.allclose(weight, corrected.weights()[name], rtol=0, atol=1e-9), name


def earning(episode: AgentEpisode, rewards: list[float]) -> AgentEpisode:
    """The episode with what fell with each of its calls; the rest falls with the last."""
    (timeline,) = episode.timelines
    spans = tuple(
        replace(span, reward=reward) for span, reward in zip(timeline.spans, rewards, strict=True)
    )
    return replace(episode, timelines=(replace(timeline, spans=spans),))


def test_credit_by_call_compares_what_was_earned_from_a_call_on(
    exact_policy, episode_builder, scripted_call
):
    """First calls return 1, 0 and 0.5 (mean 0.5), second ones 0.25 and 0.5 (mean 0.375)."""
    policy, plain = copy.deepcopy(exact_policy), copy.deepcopy(exact_policy)
    build, call = episode_builder(policy).build, scripted_call(2, 3)
    episodes = [
        earning(build([call, call], reward=1.0, sample=0), [0.75, 0.25]),
        earning(build([call], reward=0.0, sample=1), [0.0]),
        earning(build([call, call], reward=0.5, sample=2), [0.0, 0.0]),
    ]
    advantages = [[0.5, -0.125], [-0.5], [0.0, 0.125]]
    total = torch.zeros((), dtype=torch.float64)
    for episode, by_call in zip(episodes, advantages, strict=True):
        terms = [
            reply.ratios * advantage
            for reply, advantage in zip(replies(plain, episode), by_call, strict=True)
        ]
        total -= torch.cat(terms).mean() / len(episodes)
    total.backward()

    config = GrpoConfig(lr=LR, credit="call", scale_by_std=False)
    metrics = GrpoLearner(policy, config).update(episodes).metrics
    assert metrics["loss"] == pytest.approx(total.item(), abs=1e-10)
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 1e9)
    assert metrics["policy/grad_norm"] == pytest.approx(norm.item(), rel=1e-9)


@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
def test_without_rewards_by_call_and_with_as_many_calls_credit_by_call_is_by_episode(
    baseline, exact_policy, episode_builder, scripted_call
):
    build = episode_builder(exact_policy).build
    calls = [scripted_call(2, 3), scripted_call(1, 2)]
    episodes = [build(calls, reward=r, sample=s) for s, r in enumerate([1.0, 0.0, 0.25])]
    by_episode, by_call = (
        GrpoLearner(
            copy.deepcopy(exact_policy), GrpoConfig(lr=LR, baseline=baseline, credit=credit)
        )
        for credit in ("episode", "call")
    )
    by_episode.update(episodes)
    by_call.update(episodes)
    for name, weight in by_episode.weights().items():
        assert torch.allclose(weight, by_call.weights()[name], rtol=0, atol=1e-12), name


def test_credit_by_call_takes_no_step_where_all_earned_the_same(
    exact_policy, episode_builder, scripted_call
):
    build, call = episode_builder(exact_policy).build, scripted_call(2, 3)
    episodes = [
        earning(build([call, call], reward=0.9, sample=sample), [0.1, 0.8]) for sample in range(6)
    ]
    learner = GrpoLearner(copy.deepcopy(exact_policy), GrpoConfig(lr=LR, credit="call"))
    learner.update([replace(episodes[0], reward=1.0), *episodes[1:]])
    before = {name: weight.clone() for name, weight in learner.weights().items()}
    assert learner.update(episodes).metrics["tokens/trained"] == 0
    for name, weight in learner.weights().items():
        assert torch.equal(weight, before[name]), name

"""GRPO updates: against a plain reimplementation, under any cut, exactly repeatable."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from astuner_rl.algos.config import GrpoConfig
from astuner_rl.errors import NonFiniteLossError
from astuner_rl.learning.grpo import GrpoLearner


def weights_of(learner: GrpoLearner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.weights().items()}


def assert_equal_weights(left, right) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def assert_close_weights(left, right, *, tolerance: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.allclose(left[name], right[name], rtol=0, atol=tolerance), name


def plain_grpo_step(policy, episodes, *, lr: float) -> float:
    """One step, a full forward pass a call: advantages, means and ratio written out as sums."""
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr, weight_decay=0.0)
    mean = sum(episode.reward for episode in episodes) / len(episodes)
    std = math.sqrt(sum((e.reward - mean) ** 2 for e in episodes) / len(episodes))
    loss = torch.zeros((), dtype=torch.float64)
    for episode in episodes:
        advantage = (episode.reward - mean) / (std + 1e-6)
        terms = []
        for timeline in episode.timelines:
            for span in timeline.spans:
                logits = policy(torch.tensor([timeline.token_ids[: span.stop]])).logits[0]
                logprobs = (logits / span.params.temperature).log_softmax(-1)
                for t in range(span.start, span.stop):
                    logprob = logprobs[t - 1, timeline.token_ids[t]]
                    ratio = (logprob - span.logprobs[t - span.start]).exp()
                    clipped = ratio.clamp(0.8, 1.2)
                    terms.append(torch.minimum(ratio * advantage, clipped * advantage))
        loss = loss - torch.stack(terms).mean() / len(episodes)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def test_an_update_equals_a_plain_reimplementation(exact_policy, episode_builder, make_policy):
    policy = copy.deepcopy(exact_policy)
    episodes = episode_builder(policy).group([1.0, 0.0, 0.25, 1.0])
    # Sampled by other weights, so that some ratios are clipped.
    sampled = episode_builder(make_policy()).group([0.0] * 4)
    episodes += [
        replace(other, reward=0.5, episode=replace(other.episode, sample=4 + s))
        for s, other in enumerate(sampled)
    ]
    plain = copy.deepcopy(policy)
    expected = plain_grpo_step(plain, episodes, lr=1e-3)
    learner = GrpoLearner(policy, GrpoConfig(lr=1e-3))
    report = learner.update(episodes)
    assert report.metrics["loss"] == pytest.approx(expected, abs=1e-10)
    assert report.updates == 1
    assert_close_weights(weights_of(learner), dict(plain.state_dict()), tolerance=1e-8)


CALLS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4)


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.generate],  # an update is too slow for hundreds of shrinking steps
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 99),
    call_sizes=st.tuples(CALLS, CALLS, CALLS),
    rows=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    aggregation=st.sampled_from(["episode", "call", "token"]),
    credit=st.sampled_from(["episode", "call"]),
    microbatch_tokens=st.integers(1, 60),
)
def test_neither_cut_nor_micro_batches_matter(
    exact_policy,
    episode_builder,
    scripted_call,
    cut_episode,
    seed,
    call_sizes,
    rows,
    aggregation,
    credit,
    microbatch_tokens,
):
    builder = episode_builder(exact_policy, seed=seed)
    merged = [
        builder.build([scripted_call(*size) for size in sizes], reward=reward, sample=sample)
        for sample, (sizes, reward) in enumerate(zip(call_sizes, [1.0, 0.0, 0.5], strict=True))
    ]
    rearranged = [
        cut_episode(episode, rows[4 * sample : 4 * sample + len(episode.timelines[0].spans)])
        for sample, episode in enumerate(merged)
    ]
    config = GrpoConfig(lr=1e-3, aggregation=aggregation, credit=credit, kl_coefficient=0.1)
    one = GrpoLearner(copy.deepcopy(exact_policy), config)
    two = GrpoLearner(
        copy.deepcopy(exact_policy), replace(config, microbatch_tokens=microbatch_tokens)
    )
    first, second = one.update(merged).metrics, two.update(rearranged).metrics
    for name in ("loss", "policy/grad_norm", "policy/entropy", "tokens/trained", "tokens/dense"):
        assert first[name] == pytest.approx(second[name], rel=1e-12, abs=1e-10), name
    assert_close_weights(weights_of(one), weights_of(two), tolerance=1e-9)


def test_float32_log_probs_agree_with_the_sampler_s(make_policy, episode_builder, scripted_call):
    policy = make_policy()
    builder = episode_builder(policy)
    calls = [scripted_call(4, 5, temperature=0.6), scripted_call(3, 6, temperature=1.5)]
    episodes = [builder.build(calls, reward=float(s), sample=s) for s in range(4)]
    metrics = GrpoLearner(policy, GrpoConfig()).update(episodes).metrics
    assert metrics["policy/logprob_gap_max"] < 1e-4
    assert abs(metrics["policy/kl_sampler"]) < 1e-6
    assert metrics["policy/clip_fraction"] == 0.0


def test_a_sampler_that_forgot_the_temperature_shows(make_policy, episode_builder):
    policy = make_policy()
    wrong = [
        replace(
            episode,
            timelines=tuple(
                replace(
                    timeline,
                    spans=tuple(
                        replace(span, params=replace(span.params, temperature=0.5))
                        for span in timeline.spans
                    ),
                )
                for timeline in episode.timelines
            ),
        )
        for episode in episode_builder(policy).group([0.0, 1.0])
    ]
    metrics = GrpoLearner(policy, GrpoConfig()).update(wrong).metrics
    assert metrics["policy/logprob_gap_max"] > 0.1
    assert metrics["policy/kl_sampler"] > 0.01


ALL_TERMS = GrpoConfig(
    lr=1e-2,
    epochs=2,
    minibatches=2,
    microbatch_tokens=30,
    kl_coefficient=0.1,
    entropy_coefficient=0.01,
    warmup_steps=3,
)


def test_the_same_batches_give_bit_equal_weights(make_policy, episode_builder):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0, 1.0, 0.0, 0.5])
    learners = [GrpoLearner(copy.deepcopy(policy), ALL_TERMS) for _ in range(2)]
    reports = [[learner.update(episodes) for _ in range(3)] for learner in learners]
    assert reports[0] == reports[1]
    assert_equal_weights(weights_of(learners[0]), weights_of(learners[1]))


def test_a_resumed_learner_goes_on_bit_for_bit(make_policy, episode_builder, tmp_path):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0, 1.0, 0.0, 0.5])
    learner = GrpoLearner(policy, ALL_TERMS)
    learner.update(episodes)
    torch.save(learner.state_dict(), tmp_path / "state.pt")
    # Another model: whatever is not restored would differ, the frozen reference included.
    resumed = GrpoLearner(make_policy(seed=5), ALL_TERMS)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert learner.update(episodes) == resumed.update(episodes)
    assert_equal_weights(weights_of(learner), weights_of(resumed))


@pytest.mark.parametrize("minibatches", [1, 2])
def test_a_failed_update_leaves_everything_as_it_was(make_policy, episode_builder, minibatches):
    policy = make_policy()
    good = episode_builder(policy).group([0.0, 1.0, 1.0, 0.0])
    (timeline,) = good[3].timelines
    span = timeline.spans[-1]
    torn = replace(span, logprobs=(math.nan,) * len(span.logprobs))
    bad = [
        *good[:3],
        replace(good[3], timelines=(replace(timeline, spans=(*timeline.spans[:-1], torn)),)),
    ]
    config = replace(ALL_TERMS, minibatches=minibatches, epochs=1)
    learner = GrpoLearner(policy, config)
    learner.update(good)
    before = copy.deepcopy(learner.state_dict())
    with pytest.raises(NonFiniteLossError):
        learner.update(bad)
    untouched = GrpoLearner(make_policy(seed=5), config)
    untouched.load_state_dict(before)
    assert_equal_weights(weights_of(learner), weights_of(untouched))
    assert learner.update(good) == untouched.update(good)
    assert_equal_weights(weights_of(learner), weights_of(untouched))


def test_a_reward_that_is_not_a_number_is_refused(make_policy, episode_builder):
    policy = make_policy()
    learner = GrpoLearner(policy, GrpoConfig())
    before = weights_of(learner)
    with pytest.raises(NonFiniteLossError):
        learner.update(episode_builder(policy).group([math.nan, 1.0]))
    assert_equal_weights(before, weights_of(learner))


def test_groups_without_a_difference_are_counted_and_not_run(exact_policy, episode_builder):
    builder = episode_builder(exact_policy)
    solved = builder.group([1.0, 1.0], task=0)
    mixed = builder.group([0.0, 1.0], task=1)
    sampled = [
        sum(len(span.logprobs) for e in group for span in e.timelines[0].spans)
        for group in (solved, mixed)
    ]
    learner = GrpoLearner(copy.deepcopy(exact_policy), GrpoConfig(lr=1e-3))
    metrics = learner.update(solved + mixed).metrics
    assert metrics["tokens/masked/zero_advantage"] == sampled[0]
    assert metrics["tokens/trained"] == sampled[1]
    fed = [episode.timelines[0].token_ids[:-1] for episode in mixed]
    contexts = {row[:length] for row in fed for length in range(1, len(row) + 1)}
    assert metrics["tokens/forward"] == metrics["tokens/bound"] == len(contexts)

    # They keep their place in the mean: the loss is half of what the mixed group alone would give.
    alone = GrpoLearner(copy.deepcopy(exact_policy), GrpoConfig(lr=1e-3)).update(mixed).metrics
    assert metrics["policy/grad_norm"] == pytest.approx(alone["policy/grad_norm"] / 2)


def test_what_a_second_optimizer_step_feeds_again_is_counted(exact_policy, episode_builder):
    (episode,) = episode_builder(exact_policy).group([1.0])
    group = [
        replace(episode, reward=float(sample), episode=replace(episode.episode, sample=sample))
        for sample in range(2)
    ]
    learner = GrpoLearner(copy.deepcopy(exact_policy), GrpoConfig(lr=1e-3, minibatches=2))
    metrics = learner.update(group).metrics
    fed = len(episode.timelines[0].token_ids) - 1
    assert metrics["tokens/forward"] == 2 * fed
    assert (metrics["tokens/bound"], metrics["tokens/recomputed"]) == (fed, fed)


def test_a_batch_without_a_gradient_takes_no_step(make_policy, episode_builder):
    policy = make_policy()
    builder = episode_builder(policy)
    learner = GrpoLearner(policy, GrpoConfig(lr=1e-2))
    learner.update(builder.group([0.0, 1.0]))
    before = weights_of(learner)
    report = learner.update(builder.group([1.0, 1.0]))
    assert_equal_weights(before, weights_of(learner))
    assert report.updates == 2
    assert report.metrics["tokens/trained"] == 0
    assert "policy/kl_sampler" not in report.metrics
    assert learner.update([]).metrics["tokens/trained"] == 0


@pytest.mark.parametrize("setting", ["kl_coefficient", "entropy_coefficient"])
def test_penalty_and_bonus_train_groups_without_a_difference(make_policy, episode_builder, setting):
    policy = make_policy()
    learner = GrpoLearner(policy, replace(GrpoConfig(), **{setting: 0.1}))
    metrics = learner.update(episode_builder(policy).group([1.0, 1.0])).metrics
    assert metrics["tokens/masked/zero_advantage"] == 0
    assert metrics["tokens/trained"] > 0


def test_the_entropy_bonus_raises_entropy(make_policy, episode_builder):
    policy = make_policy()
    episodes = episode_builder(policy).group([1.0, 1.0])
    learner = GrpoLearner(policy, GrpoConfig(lr=1e-2, entropy_coefficient=1.0))
    entropies = [learner.update(episodes).metrics["policy/entropy"] for _ in range(5)]
    assert entropies == sorted(entropies)
    assert entropies[-1] > entropies[0] + 0.01


def test_the_reference_holds_the_policy_back(make_policy, episode_builder):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0, 1.0, 0.0])
    moved = {}
    for coefficient in (1e-9, 10.0):
        learner = GrpoLearner(
            copy.deepcopy(policy), GrpoConfig(lr=3e-3, epochs=10, kl_coefficient=coefficient)
        )
        for _ in range(2):
            metrics = learner.update(episodes).metrics
        moved[coefficient] = metrics["policy/kl_reference"]
    assert moved[10.0] < moved[1e-9] / 2


def test_the_reference_stays_the_initial_policy(make_policy, episode_builder):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0])
    learner = GrpoLearner(policy, GrpoConfig(lr=1e-2, kl_coefficient=1e-3))
    # With one step an update measures before it moves: the second sees what the first did.
    first, second = (learner.update(episodes).metrics["policy/kl_reference"] for _ in range(2))
    assert first == pytest.approx(0.0, abs=1e-7)
    assert second > 1e-3


def test_reward_makes_its_tokens_likelier(make_policy, episode_builder):
    policy = make_policy()
    episodes = episode_builder(policy).group([1.0, 0.0])
    learner = GrpoLearner(policy, GrpoConfig(lr=3e-3))

    def mean_logprob(episode) -> float:
        (timeline,) = episode.timelines
        logprobs = policy(torch.tensor([timeline.token_ids])).logits[0].log_softmax(-1)
        picked = [
            logprobs[t - 1, timeline.token_ids[t]].item()
            for span in timeline.spans
            for t in range(span.start, span.stop)
        ]
        return sum(picked) / len(picked)

    before = [mean_logprob(episode) for episode in episodes]
    for _ in range(3):
        learner.update(episodes)
    after = [mean_logprob(episode) for episode in episodes]
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_weights_name_the_tied_head_too(make_policy):
    weights = GrpoLearner(make_policy(), GrpoConfig()).weights()
    assert torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"])

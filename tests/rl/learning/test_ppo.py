"""PPO updates and the critic: what it values, under any cut, exactly repeatable."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from astuner_rl.algos.config import PpoConfig
from astuner_rl.errors import NonFiniteLossError
from astuner_rl.learning.batch import flatten
from astuner_rl.learning.critic import Critic
from astuner_rl.learning.layout import padded_rows
from astuner_rl.learning.optimizer import schedule_of
from astuner_rl.learning.ppo import PpoLearner
from astuner_rl.learning.ranks import OneProcess


def weights_of(learner: PpoLearner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.weights().items()}


def critic_of(learner: PpoLearner) -> dict[str, torch.Tensor]:
    network = learner.state_dict()["critic"]["network"]
    return {name: tensor.clone() for name, tensor in network.items()}


def assert_equal(left, right) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def assert_close(left, right, *, tolerance: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.allclose(left[name], right[name], rtol=0, atol=tolerance), name


def critic_with_a_head(policy) -> tuple[Critic, torch.Tensor]:
    """Return a critic and the weights of its head, which are not 0 as at the start."""
    critic = Critic(
        policy,
        PpoConfig(),
        schedule=schedule_of(PpoConfig(), updates=None),
        layout=padded_rows,
        ranks=OneProcess(),
    )
    state = copy.deepcopy(critic.state_dict())
    head = torch.linspace(-1, 1, 16, dtype=policy.dtype)
    state["network"]["head.weight"] = head[None]
    critic.load_state_dict(state)
    return critic, head


def test_an_untrained_critic_says_zero(exact_policy, episode_builder):
    critic = Critic(
        exact_policy,
        PpoConfig(),
        schedule=schedule_of(PpoConfig(), updates=None),
        layout=padded_rows,
        ranks=OneProcess(),
    )
    values = critic.evaluate(flatten(episode_builder(exact_policy).group([0.0, 1.0])))
    assert not values.values.any()
    assert not values.bootstrap.any()


def test_values_are_of_the_state_before_each_token_and_of_the_last_one_if_cut_short(
    exact_policy, episode_builder, scripted_call, cut_episode
):
    builder = episode_builder(exact_policy)
    calls = [scripted_call(3, 2), scripted_call(2, 3)]
    whole = builder.build(calls)
    short = cut_episode(builder.build(calls, sample=1, truncated=True), [1, 0])
    critic, head = critic_with_a_head(exact_policy)
    values = critic.evaluate(flatten([whole, short]))

    def states(token_ids) -> torch.Tensor:
        return exact_policy.model(torch.tensor([token_ids])).last_hidden_state[0] @ head

    expected = []
    for tokens in (whole.timelines[0].token_ids, short.timelines[0].token_ids):
        all_states = states(tokens).tolist()
        expected += [*all_states[2:4], *all_states[6:9]]
    assert values.values.tolist() == pytest.approx(expected, abs=1e-10)
    last = states(short.timelines[0].token_ids)[-1].item()
    assert values.bootstrap.tolist() == pytest.approx([0.0, last], abs=1e-10)


@pytest.mark.parametrize("rows", [[0, 1, 2], [1, 0, 0], [2, 1, 2]])
def test_neither_cut_nor_micro_batches_matter(
    exact_policy, episode_builder, scripted_call, cut_episode, rows
):
    builder = episode_builder(exact_policy)
    calls = [scripted_call(3, 2), scripted_call(1, 3), scripted_call(2, 2)]
    merged = [
        builder.build(calls, reward=float(sample), sample=sample, truncated=sample == 2)
        for sample in range(3)
    ]
    config = PpoConfig(lr=1e-3, critic_lr=1e-3, discount=0.99, trace_decay=0.9, minibatches=3)
    one = PpoLearner(copy.deepcopy(exact_policy), config)
    two = PpoLearner(copy.deepcopy(exact_policy), replace(config, microbatch_tokens=20))
    for _ in range(2):  # the first update sees a critic that says 0 everywhere
        first = one.update(merged)
        second = two.update([cut_episode(episode, rows) for episode in merged])
    for name in ("loss", "policy/grad_norm", "critic/loss", "critic/explained_variance"):
        assert first.metrics[name] == pytest.approx(second.metrics[name], abs=1e-7), name
    assert_close(weights_of(one), weights_of(two), tolerance=1e-7)
    assert_close(critic_of(one), critic_of(two), tolerance=1e-7)


SETTINGS = PpoConfig(lr=1e-3, critic_lr=1e-3, epochs=2, minibatches=2, microbatch_tokens=40)


def test_the_same_batches_give_bit_equal_weights(make_policy, episode_builder):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0, 0.5])
    learners = [PpoLearner(copy.deepcopy(policy), SETTINGS) for _ in range(2)]
    reports = [[learner.update(episodes) for _ in range(2)] for learner in learners]
    assert reports[0] == reports[1]
    assert_equal(weights_of(learners[0]), weights_of(learners[1]))


def test_a_resumed_learner_goes_on_bit_for_bit(make_policy, episode_builder, tmp_path):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0, 0.5])
    learner = PpoLearner(policy, SETTINGS)
    learner.update(episodes)
    torch.save(learner.state_dict(), tmp_path / "state.pt")
    resumed = PpoLearner(make_policy(seed=5), SETTINGS)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert learner.update(episodes) == resumed.update(episodes)
    assert_equal(weights_of(learner), weights_of(resumed))
    assert_equal(critic_of(learner), critic_of(resumed))


def test_a_failed_update_restores_policy_and_critic(make_policy, episode_builder):
    policy = make_policy()
    good = episode_builder(policy).group([0.0, 1.0, 0.5, 0.5])
    (timeline,) = good[3].timelines
    torn = tuple(replace(s, logprobs=(math.nan,) * len(s.logprobs)) for s in timeline.spans)
    bad = [*good[:3], replace(good[3], timelines=(replace(timeline, spans=torn),))]
    learner = PpoLearner(policy, SETTINGS)
    learner.update(good)
    weights, critic = weights_of(learner), critic_of(learner)
    with pytest.raises(NonFiniteLossError):
        learner.update(bad)
    assert_equal(weights, weights_of(learner))
    assert_equal(critic, critic_of(learner))
    assert learner.state_dict()["updates"] == 1


def test_the_critic_comes_to_explain_returns(make_policy, episode_builder):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0, 1.0, 0.0])
    config = PpoConfig(critic_lr=3e-3, epochs=4, critic_warmup_updates=100)
    learner = PpoLearner(policy, config)
    explained = [learner.update(episodes).metrics["critic/explained_variance"] for _ in range(15)]
    assert explained[0] == pytest.approx(0.0)
    assert explained[-1] > 0.8


def test_during_warm_up_the_critic_alone_is_trained(make_policy, episode_builder):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0])
    learner = PpoLearner(policy, PpoConfig(lr=1e-2, critic_warmup_updates=1))
    weights, critic = weights_of(learner), critic_of(learner)
    warmup = learner.update(episodes).metrics
    sampled = sum(len(s.logprobs) for e in episodes for s in e.timelines[0].spans)
    assert warmup["tokens/trained"] == 0
    assert warmup["tokens/masked/critic_warmup"] == sampled
    assert warmup["tokens/forward"] == warmup["tokens/bound"] <= warmup["tokens/dense"]
    assert_equal(weights, weights_of(learner))
    assert not torch.equal(critic["head.weight"], critic_of(learner)["head.weight"])
    assert learner.update(episodes).metrics["tokens/trained"] == sampled
    assert not torch.equal(weights["lm_head.weight"], weights_of(learner)["lm_head.weight"])


def test_the_policys_learning_rate_falls_over_the_updates_that_train_it(
    make_policy, episode_builder
):
    policy = make_policy()
    episodes = episode_builder(policy).group([0.0, 1.0])
    config = PpoConfig(lr=1e-2, epochs=1, decay="linear", critic_warmup_updates=2)
    learner = PpoLearner(policy, config, updates=4)
    rates = [learner.update(episodes).metrics.get("lr") for _ in range(4)]
    assert rates == [None, None, 1e-2, 5e-3]


def test_with_an_untrained_critic_the_advantage_is_the_reward(make_policy, episode_builder):
    """Discount and trace decay 1 and no whitening: the surrogate's loss at ratio 1 is -mean A."""
    policy = make_policy()
    episodes = episode_builder(policy).group([2.0, 0.0, 4.0])
    config = PpoConfig(lr=0.0, epochs=1, whiten_advantages=False)
    assert PpoLearner(policy, config).update(episodes).metrics["loss"] == pytest.approx(-2.0)


def test_whitened_advantages_have_mean_zero(make_policy, episode_builder):
    policy = make_policy()
    episodes = episode_builder(policy).group([2.0, 0.0, 4.0])
    metrics = PpoLearner(policy, PpoConfig(lr=0.0, epochs=1)).update(episodes).metrics
    assert metrics["loss"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["policy/grad_norm"] > 0


def test_truncation_adds_the_value_of_the_last_state(exact_policy, episode_builder, scripted_call):
    """With both factors 1 every advantage of the episode rises by the bootstrap."""
    episode = episode_builder(exact_policy).build([scripted_call(3, 4)], reward=1.0)
    cut_short = replace(episode, truncated=True)
    config = PpoConfig(lr=0.0, critic_lr=0.0, epochs=1, whiten_advantages=False)
    learner = PpoLearner(copy.deepcopy(exact_policy), config)
    critic, _ = critic_with_a_head(exact_policy)
    learner.load_state_dict(copy.deepcopy(learner.state_dict()) | {"critic": critic.state_dict()})
    bootstrap = critic.evaluate(flatten([cut_short])).bootstrap.item()
    assert abs(bootstrap) > 0.01
    ended = learner.update([episode]).metrics["loss"]
    assert learner.update([cut_short]).metrics["loss"] == pytest.approx(ended - bootstrap)


def test_an_empty_batch_takes_no_step(make_policy):
    learner = PpoLearner(make_policy(), PpoConfig())
    weights = weights_of(learner)
    assert learner.update([]).metrics["tokens/trained"] == 0
    assert_equal(weights, weights_of(learner))

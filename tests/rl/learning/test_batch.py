"""Agent-episodes as flat arrays of sampled tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astuner_gym.errors import SettingError
from astuner_rl.algos.config import GrpoConfig
from astuner_rl.algos.groups import group_advantages
from astuner_rl.algos.weights import Aggregation, token_weights
from astuner_rl.learning.batch import flatten, minibatch_weights
from astuner_rl.types import AgentEpisode, EpisodeKey, SampledSpan, SamplingParams, Timeline


def span(call: int, start: int, stop: int, *, temperature: float = 1.0) -> SampledSpan:
    return SampledSpan(
        call=call,
        start=start,
        stop=stop,
        logprobs=tuple(-float(call + 1) for _ in range(start, stop)),
        params=SamplingParams(temperature=temperature),
    )


def agent_episode(
    *timelines: Timeline, reward: float = 0.0, sample: int = 0, task: int = 0, role: str = "a"
) -> AgentEpisode:
    return AgentEpisode(
        episode=EpisodeKey(phase="train", step=0, task=task, sample=sample),
        agent=role,
        role=role,
        reward=reward,
        truncated=False,
        timelines=timelines,
    )


MERGED = agent_episode(
    Timeline(token_ids=(7, 8, 1, 9, 2, 3), spans=(span(0, 2, 3), span(1, 4, 6, temperature=0.5)))
)


def test_the_documented_example():
    batch = flatten([MERGED])
    assert batch.token_ids.tolist() == [1, 2, 3]
    assert batch.old_logprobs.tolist() == [-1.0, -2.0, -2.0]
    assert batch.temperatures.tolist() == [1.0, 0.5, 0.5]
    assert batch.call.tolist() == [0, 1, 1]
    (row,) = batch.rows[0]
    assert (row.reads, row.slots) == ((1, 3, 4), (0, 1, 2))
    assert row.fed == (7, 8, 1, 9, 2)
    # One row a call would be fed 7 8 and 7 8 1 9 2.
    assert batch.dense_tokens == (2 + 5,)


def test_order_is_by_call_whatever_timeline_a_call_lies_in():
    late_call_first = agent_episode(
        Timeline(token_ids=(5, 20, 21), spans=(span(0, 1, 2), span(2, 2, 3))),
        Timeline(token_ids=(6, 30), spans=(span(1, 1, 2),)),
    )
    batch = flatten([late_call_first])
    assert batch.token_ids.tolist() == [20, 30, 21]
    assert [row.slots for row in batch.rows[0]] == [(0, 2), (1,)]


def test_rows_cut_otherwise_hold_the_same_tokens():
    one_row_a_call = agent_episode(
        Timeline(token_ids=(7, 8, 1), spans=(span(0, 2, 3),)),
        Timeline(token_ids=(7, 8, 1, 9, 2, 3), spans=(span(1, 4, 6, temperature=0.5),)),
    )
    merged, cut = flatten([MERGED]), flatten([one_row_a_call])
    for name in ("token_ids", "old_logprobs", "temperatures", "unit", "call", "rewards", "group"):
        left, right = getattr(merged, name), getattr(cut, name)
        assert left.tolist() == right.tolist(), name
    assert merged.dense_tokens == cut.dense_tokens


def test_an_episode_that_fans_out_into_rows_does_not_weigh_more():
    """With a mean over rows the baseline would be 0.75 and the first episode weigh 3 to 1."""
    rows = [Timeline(token_ids=(5, 20 + call), spans=(span(call, 1, 2),)) for call in range(3)]
    batch = flatten(
        [agent_episode(*rows, reward=1.0, sample=0), agent_episode(rows[0], reward=0.0, sample=1)]
    )
    advantages = group_advantages(batch.rewards, batch.group, scale_by_std=False)
    assert advantages.tolist() == [0.5, -0.5]
    weights = token_weights(batch.unit, batch.call, aggregation=Aggregation.EPISODE)
    assert weights.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_groups_are_by_task_and_role():
    timeline = MERGED.timelines[0]
    keys = [(0, "a", 0), (0, "b", 0), (0, "a", 1), (0, "b", 1), (1, "a", 0)]
    batch = flatten(
        [agent_episode(timeline, task=task, role=role, sample=s) for task, role, s in keys]
    )
    assert batch.group.tolist() == [0, 1, 0, 1, 2]


def test_rewards_come_with_the_last_sampled_token():
    silent = agent_episode(Timeline(token_ids=(5,), spans=(span(0, 1, 1),)), reward=9.0)
    batch = flatten([replace(MERGED, reward=2.0), silent, replace(MERGED, reward=-1.0)])
    assert batch.token_rewards().tolist() == [0, 0, 2.0, 0, 0, -1.0]
    assert batch.last_tokens().tolist() == [2, -1, 5]


def test_a_reward_by_call_comes_with_the_call_s_last_token_and_the_rest_with_the_last_one():
    earning = Timeline(
        token_ids=(7, 1, 2, 9, 3),
        spans=(
            replace(span(0, 1, 3), reward=0.25),
            replace(span(1, 4, 5), reward=0.5),
            replace(span(2, 5, 5), reward=8.0),  # sampled nothing, so nothing can answer for it
        ),
    )
    batch = flatten([agent_episode(earning, reward=1.0)])
    assert batch.call_rewards.tolist() == [0.25, 0.75, 0.0]
    assert batch.token_rewards().tolist() == [0, 0.25, 0.75]


def test_minibatches_split_agent_episodes_in_order_and_weigh_one_each():
    batch = flatten([replace(MERGED, reward=float(u)) for u in range(5)])
    parts = minibatch_weights(batch, GrpoConfig(minibatches=2))
    assert [batch.units_of(part > 0).tolist() for part in parts] == [
        [True, True, False, False, False],
        [False, False, True, True, True],
    ]
    assert [part.sum().item() for part in parts] == pytest.approx([1.0, 1.0])


def test_parts_without_a_token_are_left_out():
    batch = flatten([MERGED])
    assert len(minibatch_weights(batch, GrpoConfig(minibatches=4))) == 1
    assert minibatch_weights(flatten([]), GrpoConfig(minibatches=4)) == []


@pytest.mark.parametrize(
    ("spans", "error", "message"),
    [
        ((span(0, 1, 2), span(0, 2, 3)), ValueError, "call 0 .* twice"),
        ((span(0, 0, 2),), ValueError, "must follow a prompt"),
        ((span(0, 2, 9),), ValueError, "within its timeline"),
        ((replace(span(0, 1, 3), logprobs=(-1.0,)),), ValueError, "got 1 for 2 tokens"),
        ((span(0, 1, 2, temperature=0.0),), SettingError, "temperature > 0, got 0.0"),
    ],
)
def test_malformed_spans_are_refused(spans, error, message):
    with pytest.raises(error, match=message):
        flatten([agent_episode(Timeline(token_ids=(1, 2, 3), spans=spans))])

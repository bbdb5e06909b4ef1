"""What the benchmark counts by itself, and that its checks can fail."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from benchmarks.forest import Logs, agent_episodes, cases, prefix_tree, unfaithful_and_lost


@pytest.fixture(scope="module")
def logs() -> Logs:
    return cases(Random(0), quick=True)["one-token drift"]


def test_the_bound_counts_each_context_once() -> None:
    (first, second) = cases(Random(0), quick=True)["group, long prompt"][:2]
    assert prefix_tree([first]) == 1024 + 64 - 1
    assert prefix_tree([first, first]) == prefix_tree([first])
    assert prefix_tree([first, second]) == 1024 + 2 * 63


@pytest.mark.parametrize("name", cases(Random(0), quick=True))
def test_every_case_is_trained_faithfully_and_wholly(name: str) -> None:
    logs = cases(Random(0), quick=True)[name]
    episodes = agent_episodes(logs)
    assert unfaithful_and_lost(episodes[: len(logs)], logs) == (0, 0)


def test_a_context_that_was_not_seen_is_found(logs: Logs) -> None:
    episodes = agent_episodes(logs)
    timeline = episodes[0].timelines[0]
    sampled = sum(span.stop - span.start for span in timeline.spans)
    false = replace(
        timeline, token_ids=((timeline.token_ids[0] + 1) % 512, *timeline.token_ids[1:])
    )
    changed = replace(episodes[0], timelines=(false, *episodes[0].timelines[1:]))
    assert unfaithful_and_lost([changed, *episodes[1:]], logs) == (sampled, 0)


def test_a_token_that_is_left_out_is_found(logs: Logs) -> None:
    episodes = agent_episodes(logs)
    last = episodes[-1].timelines[-1]
    lost = last.spans[-1].stop - last.spans[-1].start
    shorter = replace(last, spans=last.spans[:-1])
    changed = replace(episodes[-1], timelines=(*episodes[-1].timelines[:-1], shorter))
    assert unfaithful_and_lost([*episodes[:-1], changed], logs)[1] == lost

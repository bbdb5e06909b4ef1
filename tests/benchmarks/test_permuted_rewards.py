"""The control's rewards: dealt out anew within each group, and nothing else changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.types import AgentEpisode, EpisodeKey
from benchmarks import permuted_rewards
from benchmarks.permuted_rewards import permute_rewards
from tests.rl.conftest import hf_folder, toy

__all__ = ["hf_folder", "toy"]


def unit(*, task: int, sample: int, reward: float, role: str = "solver") -> AgentEpisode:
    return AgentEpisode(
        episode=EpisodeKey("train", 3, task, sample),
        agent=role,
        role=role,
        reward=reward,
        truncated=False,
        timelines=(),
    )


units = st.builds(
    unit,
    task=st.integers(0, 2),
    sample=st.integers(0, 3),
    reward=st.floats(0, 1),
    role=st.sampled_from(["solver", "critic"]),
)


@given(st.lists(units, max_size=20))
def test_each_group_keeps_its_rewards_and_each_episode_all_else(
    episodes: list[AgentEpisode],
) -> None:
    permuted = permute_rewards(episodes)

    def rewards(given: list[AgentEpisode]) -> dict[tuple[int, str], list[float]]:
        by_group: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
        for each in given:
            by_group[each.episode.task, each.role].append(each.reward)
        return {group: sorted(values) for group, values in by_group.items()}

    assert rewards(permuted) == rewards(episodes)
    assert [replace(new, reward=0.0) for new in permuted] == [
        replace(old, reward=0.0) for old in episodes
    ]


def test_rewards_move_and_draws_depend_on_the_group_alone() -> None:
    group = [unit(task=7, sample=sample, reward=float(sample)) for sample in range(8)]
    other = [unit(task=8, sample=sample, reward=float(sample)) for sample in range(8)]
    alone = [each.reward for each in permute_rewards(group)]
    assert alone != [each.reward for each in group]
    assert [each.reward for each in permute_rewards([*other, *group])[8:]] == alone
    assert [each.reward for each in permute_rewards(other)] != alone


def test_a_run_learns_from_them(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned_from: list[list[AgentEpisode]] = []

    def permute(episodes: Sequence[AgentEpisode]) -> list[AgentEpisode]:
        learned_from.append(permute_rewards(episodes))
        return learned_from[-1]

    monkeypatch.setattr(permuted_rewards, "permute_rewards", permute)
    settings = toy.settings("algo=grpo", "train.steps=1", f"run.dir={tmp_path / 'run'}")
    assert permuted_rewards.main(settings) == 0
    assert [len(each) for each in learned_from] == [8]  # 2 groups of 2 episodes of 2 agents

"""The control's rewards: dealt out anew within each group, and nothing else changed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from astuner_rl.types import AgentEpisode, EpisodeKey
from benchmarks.permuted_rewards import permute_rewards


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

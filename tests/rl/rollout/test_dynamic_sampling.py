"""Groups are drawn until enough of them differ within themselves."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_rl.rollout.dynamic_sampling import Drawn, differs, draw_groups
from astuner_rl.types import (
    CallRecord,
    Completion,
    Episode,
    EpisodeKey,
    EpisodeStatus,
    FinishReason,
    Group,
    SamplingParams,
)


def call(agent: str, role: str) -> CallRecord:
    return CallRecord(
        call=ChatCall(agent=agent, role=role, index=0, messages=()),
        reply=ChatReply(text=""),
        prompt_ids=(1,),
        completion=Completion(
            token_ids=(2,), logprobs=(0.0,), finish_reason=FinishReason.STOP, policy_version=0
        ),
        extends=None,
        params=SamplingParams(),
    )


def group(task: str, *rewards: tuple[float, float]) -> Group:
    """One episode for each pair of rewards, of a wolf and a seer."""
    return Group(
        task_id=task,
        episodes=tuple(
            Episode(
                key=EpisodeKey("train", 0, 0, sample),
                task_id=task,
                calls=(call("p1", "wolf"), call("p2", "seer")),
                status=EpisodeStatus.COMPLETED,
                rewards={"p1": wolf, "p2": seer},
            )
            for sample, (wolf, seer) in enumerate(rewards)
        ),
    )


def differing(task: str) -> Group:
    return group(task, (0, 0), (1, 0))


def agreeing(task: str) -> Group:
    return group(task, (1, 0), (1, 0))


def test_rewards_are_compared_within_trained_roles() -> None:
    assert differs(differing("a"), trainable=None)
    assert differs(differing("a"), trainable=["wolf"])
    assert not differs(differing("a"), trainable=["seer"])
    # Wolf and seer earn different rewards, but they have no baseline in common.
    assert not differs(agreeing("a"), trainable=None)


def test_a_failed_episode_is_no_difference() -> None:
    first, second = differing("a").episodes
    failed = replace(second, status=EpisodeStatus.FAILED, rewards={})
    assert not differs(Group(task_id="a", episodes=(first, failed)), trainable=None)


def drawn(draws: list[list[Group]], *, wanted: int, most_draws: int) -> Drawn:
    async def draw(number: int) -> list[Group]:
        return draws[number]

    return asyncio.run(draw_groups(draw, wanted=wanted, most_draws=most_draws, trainable=None))


def names(groups: tuple[Group, ...]) -> str:
    return "".join(each.task_id for each in groups)


@pytest.mark.parametrize(
    ("most_draws", "used", "unused", "draws"),
    [(1, "ab", "", 1), (2, "b", "acd", 2), (3, "be", "acdf", 3), (9, "be", "acdf", 3)],
)
def test_tasks_are_drawn_until_enough_groups_differ(
    most_draws: int, used: str, unused: str, draws: int
) -> None:
    result = drawn(
        [
            [agreeing("a"), differing("b")],
            [agreeing("c"), agreeing("d")],
            [differing("e"), differing("f")],
        ],
        wanted=2,
        most_draws=most_draws,
    )
    assert (names(result.used), names(result.unused), result.draws) == (used, unused, draws)


def test_where_no_group_differs_the_first_draw_is_used() -> None:
    result = drawn([[agreeing("a")], [agreeing("b")]], wanted=1, most_draws=2)
    assert (names(result.used), names(result.unused), result.draws) == ("a", "b", 2)

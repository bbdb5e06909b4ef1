"""The account of a step's tokens: each is trained once or masked with its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_rl.tracking import training_data as module
from astuner_rl.tracking.training_data import MaskReason, training_data
from astuner_rl.types import (
    CallRecord,
    Completion,
    Episode,
    EpisodeKey,
    EpisodeStatus,
    FinishReason,
    Group,
    SampledSpan,
    SamplingParams,
    Timeline,
)


def call(
    agent: str, *, role: str, tokens: int, finish: FinishReason = FinishReason.STOP
) -> CallRecord:
    return CallRecord(
        call=ChatCall(agent=agent, role=role, index=0, messages=()),
        reply=ChatReply(text=""),
        prompt_ids=(1, 2),
        completion=Completion(
            token_ids=(7,) * tokens,
            logprobs=(-1.0,) * tokens,
            finish_reason=finish,
            policy_version=0,
        ),
        extends=None,
        params=SamplingParams(),
    )


def episode(sample: int, *calls: CallRecord, status: EpisodeStatus) -> Episode:
    return Episode(
        key=EpisodeKey("train", 0, 0, sample),
        task_id="t",
        calls=calls,
        status=status,
        rewards={record.call.agent: float(sample) for record in calls},
    )


WOLF = call("p1", role="wolf", tokens=3)
SEER = call("p2", role="seer", tokens=5)


def test_failed_episodes_and_untrained_roles_are_masked_with_their_reason() -> None:
    group = Group(
        task_id="t",
        episodes=(
            episode(0, WOLF, SEER, status=EpisodeStatus.COMPLETED),
            episode(1, WOLF, SEER, status=EpisodeStatus.FAILED),
        ),
    )
    data = training_data([group], trainable=["wolf"])
    assert data.sampled == 16
    assert data.certificate.trained == 3
    assert data.masked == {MaskReason.UNTRAINED_ROLE: 5, MaskReason.FAILED_EPISODE: 8}
    (unit,) = data.agent_episodes
    assert (unit.agent, unit.role, unit.reward, unit.truncated) == ("p1", "wolf", 0.0, False)


def test_truncated_episode_is_trained_with_its_future_unknown() -> None:
    group = Group(task_id="t", episodes=(episode(1, WOLF, status=EpisodeStatus.TRUNCATED),))
    data = training_data([group], trainable=None)
    assert [(unit.reward, unit.truncated) for unit in data.agent_episodes] == [(1.0, True)]


def test_groups_that_are_not_used_are_accounted_for() -> None:
    used, unused = (
        Group(task_id="t", episodes=(episode(sample, WOLF, SEER, status=EpisodeStatus.COMPLETED),))
        for sample in (0, 1)
    )
    data = training_data([used], trainable=["wolf"], unused=[unused])
    assert (data.sampled, data.certificate.trained) == (16, 3)
    assert data.masked == {MaskReason.UNTRAINED_ROLE: 5, MaskReason.UNUSED_GROUP: 8}
    assert [unit.reward for unit in data.agent_episodes] == [0.0]


def test_aborted_call_is_masked() -> None:
    aborted = call("p1", role="wolf", tokens=2, finish=FinishReason.ABORT)
    group = Group(task_id="t", episodes=(episode(0, aborted, status=EpisodeStatus.COMPLETED),))
    data = training_data([group], trainable=None)
    assert data.agent_episodes == ()
    assert data.masked == {MaskReason.ABORTED_CALL: 2}


def test_order_does_not_depend_on_arrival() -> None:
    first = episode(0, WOLF, status=EpisodeStatus.COMPLETED)
    second = replace(first, key=EpisodeKey("train", 0, 0, 1))
    units = training_data([Group(task_id="t", episodes=(second, first))], trainable=None)
    assert [unit.episode.sample for unit in units.agent_episodes] == [0, 1]


def test_rows_that_are_not_what_was_sampled_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    false = Timeline(
        token_ids=(1, 9, 7, 7, 7),
        spans=(
            SampledSpan(
                call=0,
                start=2,
                stop=5,
                logprobs=(-1.0,) * 3,
                params=SamplingParams(),
            ),
        ),
    )
    monkeypatch.setattr(module, "build_timelines", lambda *_, **__: (false,))
    group = Group(task_id="t", episodes=(episode(0, WOLF, status=EpisodeStatus.COMPLETED),))
    with pytest.raises(RuntimeError, match=r"trained once, in its own context.*unfaithful=3"):
        training_data([group], trainable=None)

"""The certificate of a step's rows: it holds for what is built, and fails for what is not so."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_rl.tracking.certificate import Certificate, certify
from astuner_rl.tracking.training_data import training_data
from astuner_rl.types import (
    AgentEpisode,
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

A, B, C = 101, 102, 103


def record(
    index: int, prompt: tuple[int, ...], sampled: tuple[int, ...], *, extends: int | None = None
) -> CallRecord:
    return CallRecord(
        call=ChatCall(agent="solver", role="solver", index=index, messages=()),
        reply=ChatReply(text=""),
        prompt_ids=prompt,
        completion=Completion(
            token_ids=sampled,
            logprobs=(-1.0,) * len(sampled),
            finish_reason=FinishReason.STOP,
            policy_version=0,
        ),
        extends=extends,
        params=SamplingParams(),
    )


def episode(*calls: CallRecord) -> Episode:
    return Episode(
        key=EpisodeKey("train", 0, 0, 0),
        task_id="t",
        calls=calls,
        status=EpisodeStatus.COMPLETED,
        rewards={"solver": 1.0},
    )


def unit(*timelines: Timeline) -> AgentEpisode:
    return AgentEpisode(
        episode=EpisodeKey("train", 0, 0, 0),
        agent="solver",
        role="solver",
        reward=1.0,
        truncated=False,
        timelines=timelines,
    )


def span(call: int, start: int, stop: int) -> SampledSpan:
    return SampledSpan(
        call=call,
        start=start,
        stop=stop,
        logprobs=(-1.0,) * (stop - start),
        params=SamplingParams(),
    )


LOG = [episode(record(0, (1, 2), (A, B)), record(1, (1, 2, A, B, 3), (C,), extends=0))]
ROW = Timeline(token_ids=(1, 2, A, B, 3, C), spans=(span(0, 2, 4), span(1, 5, 6)))


def test_the_worked_example() -> None:
    assert certify([unit(ROW)], LOG) == Certificate(trained=3, duplicated=0, unfaithful=0)
    false = Timeline(token_ids=(1, 9, A, B), spans=(span(0, 2, 4),))
    assert certify([unit(false)], LOG) == Certificate(trained=2, duplicated=0, unfaithful=2)
    twice = Timeline(token_ids=(1, 2, A, B), spans=(span(0, 2, 4),))
    assert certify([unit(ROW, twice)], LOG) == Certificate(trained=3, duplicated=2, unfaithful=0)


def test_tokens_and_log_probs_must_be_those_of_the_call() -> None:
    other_token = replace(ROW, token_ids=(1, 2, A, A, 3, C))
    # The wrong token is trained in call 0 and is context of call 1.
    assert certify([unit(other_token)], LOG).unfaithful == 3
    other_logprob = replace(ROW, spans=(replace(ROW.spans[0], logprobs=(-1.0, -2.0)), ROW.spans[1]))
    assert certify([unit(other_logprob)], LOG).unfaithful == 2
    no_such_call = replace(ROW, spans=(replace(ROW.spans[0], call=7),))
    assert certify([unit(no_such_call)], LOG).unfaithful == 2


@given(st.data())
def test_it_holds_for_any_call_log(data: st.DataObject) -> None:
    """Calls that go on from any earlier call, from none, or from one that another went on from."""
    calls: list[CallRecord] = []
    for index in range(data.draw(st.integers(1, 6))):
        sampled = tuple(data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=3)))
        new = tuple(data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=3)))
        extends = data.draw(st.sampled_from([None, *range(index)]))
        if extends is None:
            calls.append(record(index, new, sampled))
        else:
            earlier = calls[extends]
            prompt = earlier.prompt_ids + earlier.completion.token_ids + new
            calls.append(record(index, prompt, sampled, extends=extends))
    step = training_data([Group(task_id="t", episodes=(episode(*calls),))], trainable=None)
    tokens = sum(len(call.completion.token_ids) for call in calls)
    assert step.certificate == Certificate(trained=tokens, duplicated=0, unfaithful=0)

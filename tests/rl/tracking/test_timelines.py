"""Timelines: rows that lose, repeat and invent no token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_rl.tracking.timelines import build_timelines
from astuner_rl.types import CallRecord, Completion, FinishReason, SamplingParams, Timeline

A, B, C, D = 101, 102, 103, 104


def record(
    index: int, prompt: tuple[int, ...], sampled: tuple[int, ...], *, extends: int | None = None
) -> CallRecord:
    return CallRecord(
        call=ChatCall(agent="solver", role="solver", index=index, messages=()),
        reply=ChatReply(text=""),
        prompt_ids=prompt,
        completion=Completion(
            token_ids=sampled,
            logprobs=tuple(-float(token) for token in sampled),
            finish_reason=FinishReason.STOP,
            policy_version=0,
        ),
        extends=extends,
        params=SamplingParams(),
    )


def cut(*calls: CallRecord) -> tuple[Timeline, ...]:
    return build_timelines(calls, trained={call.call.index for call in calls})


def spans(timeline: Timeline) -> list[tuple[int, int, int]]:
    return [(span.call, span.start, span.stop) for span in timeline.spans]


def test_worked_example_of_the_module() -> None:
    rows = cut(
        record(0, (1, 2), (A, B)),
        record(1, (1, 2, A, B, 3), (C,), extends=0),
        record(2, (1, 2, 4), (D,)),
    )
    assert [row.token_ids for row in rows] == [(1, 2, A, B, 3, C), (1, 2, 4, D)]
    assert [spans(row) for row in rows] == [[(0, 2, 4), (1, 5, 6)], [(2, 3, 4)]]
    assert rows[0].spans[0].logprobs == (-101.0, -102.0)


def test_retry_trains_the_shared_reply_only_once() -> None:
    rows = cut(
        record(0, (1,), (A,)),
        record(1, (1, A, 2), (B,), extends=0),
        record(2, (1, A, 2), (C,), extends=0),
    )
    assert [row.token_ids for row in rows] == [(1, A, 2, B), (1, A, 2, C)]
    assert [spans(row) for row in rows] == [[(0, 1, 2), (1, 3, 4)], [(2, 3, 4)]]


def test_untrained_call_is_context_for_the_next() -> None:
    calls = (record(0, (1,), (A,)), record(1, (1, A, 2), (B,), extends=0))
    (row,) = build_timelines(calls, trained={1})
    assert row.token_ids == (1, A, 2, B)
    assert spans(row) == [(1, 3, 4)]
    assert build_timelines(calls, trained=()) == ()


def test_false_claim_to_extend_is_refused() -> None:
    with pytest.raises(ValueError, match="must begin with the tokens of call 0"):
        cut(record(0, (1,), (A,)), record(1, (1, B, 2), (C,), extends=0))


@st.composite
def call_logs(draw: st.DrawFn) -> list[CallRecord]:
    log: list[CallRecord] = []
    tokens = st.integers(0, 3)
    for index in range(draw(st.integers(1, 8))):
        extends = draw(st.sampled_from([None, *range(index)]))
        prefix: tuple[int, ...] = ()
        if extends is not None:
            prefix = log[extends].prompt_ids + log[extends].completion.token_ids
        context = tuple(draw(st.lists(tokens, min_size=1, max_size=3)))
        sampled = tuple(draw(st.lists(tokens, min_size=1, max_size=3)))
        log.append(record(index, prefix + context, sampled, extends=extends))
    return log


@given(call_logs())
def test_every_sampled_token_is_trained_once_in_the_context_that_the_sampler_saw(
    log: list[CallRecord],
) -> None:
    rows = cut(*log)
    trained = [(span, row) for row in rows for span in row.spans]
    assert sorted(span.call for span, _ in trained) == [call.call.index for call in log]
    for span, row in trained:
        call = log[span.call]
        assert row.token_ids[: span.start] == call.prompt_ids
        assert row.token_ids[span.start : span.stop] == call.completion.token_ids
        assert span.logprobs == call.completion.logprobs

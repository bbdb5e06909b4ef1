"""From a call log to rows of tokens: calls that extend each other share one row.

Worked example. An agent makes three calls; digits are context, letters are sampled:

    call 0: prompt 1 2        completion a b
    call 1: prompt 1 2 a b 3  completion c      extends call 0
    call 2: prompt 1 2 4      completion d      rendered anew: its history was rewritten

Call 1 goes on where call 0 ended, so both lie in one timeline; call 2 opens another:

    timeline 0: 1 2 a b 3 c   sampled a b (call 0) and c (call 1)
    timeline 1: 1 2 4 d       sampled d (call 2)

A retry that extends call 0 a second time opens a timeline as well, in which ``a b`` is context:
every sampled token is trained exactly once, and every context token is the one the sampler saw.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from astuner_rl.types import CallRecord, SampledSpan, Timeline


def build_timelines(
    calls: Sequence[CallRecord], *, trained: Collection[int], rewards: Sequence[float] = ()
) -> tuple[Timeline, ...]:
    """Cut one agent's calls into timelines, in time linear in the tokens.

    Args:
        calls: All answered calls of one agent in one episode, by ascending index.
        trained: Indices of the calls that get a span; the tokens of the others are context, and
            a timeline in which nothing is trained is left out.
        rewards: What of the agent's reward fell with each call; empty if it is not known.

    Raises:
        ValueError: A call claims to extend another whose tokens its prompt does not begin with.
    """
    rows: list[list[CallRecord]] = []
    row_ending_in: dict[int, list[CallRecord]] = {}
    by_index: dict[int, CallRecord] = {}
    for call in calls:
        if call.extends is not None:
            _require_prefix(by_index[call.extends], call)
        row = None if call.extends is None else row_ending_in.pop(call.extends, None)
        if row is None:
            row = []
            rows.append(row)
        row.append(call)
        row_ending_in[call.call.index] = row
        by_index[call.call.index] = call
    earned = dict(zip(by_index, rewards, strict=True)) if rewards else {}
    timelines = (_timeline(row, trained=trained, earned=earned) for row in rows)
    return tuple(timeline for timeline in timelines if timeline.spans)


def _require_prefix(earlier: CallRecord, later: CallRecord) -> None:
    prefix = earlier.prompt_ids + earlier.completion.token_ids
    if later.prompt_ids[: len(prefix)] != prefix:
        raise ValueError(
            f"call {later.call.index} of {later.call.agent} must begin with the tokens of call "
            f"{earlier.call.index}, which it claims to extend; the sampler saw others"
        )


def _timeline(
    row: Sequence[CallRecord], *, trained: Collection[int], earned: Mapping[int, float]
) -> Timeline:
    spans = tuple(
        SampledSpan(
            call=record.call.index,
            start=len(record.prompt_ids),
            stop=len(record.prompt_ids) + len(record.completion.token_ids),
            logprobs=record.completion.logprobs,
            params=record.params,
            reward=earned.get(record.call.index, 0.0),
        )
        for record in row
        if record.call.index in trained
    )
    return Timeline(token_ids=row[-1].prompt_ids + row[-1].completion.token_ids, spans=spans)

"""Passes over a forest: nothing lost, nothing twice, and a cut only where it must be."""

from __future__ import annotations

import logging
from itertools import zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from astuner_rl.learning import forest_layout
from astuner_rl.learning.forest_layout import LEAST_ROOM, call_rows, forest_passes, layout_of
from astuner_rl.learning.layout import Microbatch, Row, Segment, padded_rows
from astuner_rl.learning.prefix_tree import prefix_tree_tokens


def replies(*, prompt: int, lengths: list[int]) -> list[Row]:
    """Rows that share a prompt and part at their first sampled token."""
    shared = tuple(range(100, 100 + prompt))
    return [
        Row(
            token_ids=(*shared, *(1000 * (number + 1) + place for place in range(length + 1))),
            reads=(prompt - 1 + length,),
            slots=(number,),
        )
        for number, length in enumerate(lengths)
    ]


def test_a_forest_that_fits_is_one_pass():
    (only,) = forest_passes(replies(prompt=4, lengths=[2, 3]), microbatch_tokens=9)
    assert only.input_ids.tolist() == [[100, 101, 102, 103, 1000, 1001, 2000, 2001, 2002]]
    assert only.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 4, 5, 6]]
    assert only.branching == (
        Segment(start=0, stop=4, end=9, depth=0),
        Segment(start=4, stop=6, end=6, depth=4),
        Segment(start=6, stop=9, end=9, depth=4),
    )
    assert (only.reads.tolist(), only.slots.tolist()) == ([5, 8], [0, 1])
    assert (only.fed_tokens, only.level, only.carries) == (9, 0, False)


def test_the_documented_cut():
    rows = replies(prompt=6, lengths=[3, 3, 3])
    passes = forest_passes(rows, microbatch_tokens=12)
    assert [(one.fed_tokens, one.slots.tolist()) for one in passes] == [
        (6, []),
        (6, [0, 1]),
        (3, [2]),
    ]
    assert [(one.level, one.carries) for one in passes] == [(0, True), (1, False), (1, False)]


def test_a_prompt_that_alone_does_not_fit_takes_its_longest_reply_along():
    first, second = forest_passes(replies(prompt=6, lengths=[3, 1]), microbatch_tokens=2)
    assert (first.fed_tokens, first.level, first.branching) == (9, 0, (Segment(0, 9, 9, 0),))
    assert (second.fed_tokens, second.level, second.branching) == (1, 1, (Segment(0, 1, 1, 6),))


def test_a_long_spine_with_many_branches_takes_few_passes():
    """Every call of 60 is made twice: 120 passes, each on the last, if every node were one."""
    rows, prompt, slot = [], tuple(range(600)), 0
    for call in range(60):
        for attempt in (2, 1):  # the conversation goes on from the second
            reply = tuple(10_000 * attempt + 100 * call + place for place in range(20))
            rows.append(Row(token_ids=prompt + reply, reads=(len(prompt) + 18,), slots=(slot,)))
            slot += 1
        prompt += reply
    passes = forest_passes(rows, microbatch_tokens=1024)
    assert max(one.level for one in passes) == 1
    assert len(passes) < 10
    assert sum(one.fed_tokens for one in passes) == prefix_tree_tokens(rows)


def own_context(microbatch: Microbatch, place: int) -> tuple[int, ...]:
    """The tokens of its pass that the state at ``place`` has seen, by the rule of the branching."""
    assert microbatch.branching is not None
    token_ids = microbatch.input_ids[0].tolist()
    end = {
        token: segment.end
        for segment in microbatch.branching
        for token in range(segment.start, segment.stop)
    }
    return tuple(token_ids[token] for token in range(place + 1) if place < end[token])


@given(
    contexts=st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=12), max_size=8),
    budget=st.integers(1, 40),
)
def test_any_cut_reads_every_state_once_in_its_context(contexts: list[list[int]], budget: int):
    rows = [
        Row(token_ids=tuple(tokens), reads=(len(tokens) - 2,), slots=(slot,))
        for slot, tokens in enumerate(contexts)
    ]
    passes = forest_passes(rows, microbatch_tokens=budget)
    found = {}
    above: list[tuple[int, ...]] = []
    held: list[int] = []
    for one, following in zip_longest(passes, passes[1:]):
        del above[one.level :], held[one.level :]
        assert len(above) == one.level
        assert one.carries == (following is not None and following.level > one.level)
        context = above[-1] if above else ()
        assert one.branching is not None
        assert one.fed_tokens == one.input_ids.numel()
        room = max(budget - sum(held), budget // LEAST_ROOM)
        assert one.fed_tokens <= room or len(one.branching) == 1
        for read, slot in zip(one.reads.tolist(), one.slots.tolist(), strict=True):
            assert slot not in found
            own = own_context(one, read)
            found[slot] = context[: int(one.position_ids[0, read]) + 1 - len(own)] + own
        above.append(context[: one.branching[0].depth] + tuple(one.input_ids[0].tolist()))
        held.append(one.fed_tokens)
    assert found == {slot: row.fed for slot, row in enumerate(rows)}
    assert sum(one.fed_tokens for one in passes) == prefix_tree_tokens(rows)


def test_a_row_for_every_call():
    (both,) = call_rows(
        [Row(token_ids=(1, 2, 11, 3, 12, 13), reads=(1, 3, 4), slots=(0, 1, 2))],
        microbatch_tokens=100,
    )
    assert both.input_ids.tolist() == [[1, 2, 11, 3, 12], [1, 2, 0, 0, 0]]
    assert both.slots.tolist() == [1, 2, 0]
    assert both.reads.tolist() == [3, 4, 6]


def test_a_model_whose_attention_is_not_known_is_trained_call_by_call(
    caplog: pytest.LogCaptureFixture,
):
    shape = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    assert layout_of(LlamaForCausalLM(LlamaConfig(**shape))) is forest_passes
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1))
        assert layout_of(gpt2) is call_rows
    assert "every call is trained as a row of its own" in caplog.text
    assert "got gpt2" in caplog.text

    with caplog.at_level(logging.WARNING):
        elsewhere = LlamaForCausalLM(LlamaConfig(**shape)).to("meta")
        assert layout_of(elsewhere) is padded_rows
    assert "on meta episodes of a group do not share their prompt" in caplog.text

    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    dynamic = LlamaForCausalLM(LlamaConfig(**shape, rope_parameters=rope))
    assert layout_of(dynamic) is call_rows


def test_a_forest_that_loses_a_token_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forest_layout, "prefix_tree_tokens", lambda rows: 8)
    with pytest.raises(RuntimeError, match="must feed its 8 contexts once, but feeds 9"):
        forest_passes(replies(prompt=4, lengths=[2, 3]), microbatch_tokens=9)

"""What is logged comes back bit for bit, and takes no more room than what is new."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, ToolCall
from astuner_gym.errors import UnusableInputError
from astuner_gym.judge import GivenReward
from astuner_gym.task import JsonValue
from astuner_gym.workflow import WorkflowResult
from astuner_rl.tracing.episode_json import LoggedEpisode, decode_episode, encode_episode
from astuner_rl.tracing.episode_log import read_episodes, write_episodes
from astuner_rl.types import (
    CallRecord,
    Completion,
    Episode,
    EpisodeKey,
    EpisodeStatus,
    FinishReason,
    SamplingParams,
    VersionChange,
)

# Any text that Python can hold: lone surrogates, controls and line separators included.
texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
floats = st.floats(allow_nan=True, allow_infinity=True)
token_ids = st.lists(st.integers(0, 200_000), max_size=5).map(tuple)
tool_calls = st.lists(st.builds(ToolCall, texts, texts, texts), max_size=2).map(tuple)
messages = st.builds(
    ChatMessage,
    role=st.sampled_from(ChatRole),
    text=texts,
    thinking=texts,
    tool_calls=tool_calls,
    tool_call_id=texts,
    name=texts,
)
replies = st.builds(
    ChatReply,
    text=texts,
    thinking=texts,
    tool_calls=tool_calls,
    malformed_tool_call=st.booleans(),
    prompt_tokens=st.integers(0, 9),
    completion_tokens=st.integers(0, 9),
)
tools = st.lists(
    st.dictionaries(texts, st.one_of(texts, st.none(), st.lists(st.integers()))), max_size=1
).map(tuple)

version_changes = st.lists(
    st.builds(VersionChange, position=st.integers(1, 9), version=st.integers(0, 99)), max_size=2
).map(tuple)


@st.composite
def agents_calls(draw: st.DrawFn, agent: str) -> list[CallRecord]:
    records: list[CallRecord] = []
    for index in range(draw(st.integers(0, 4))):
        extends = draw(st.sampled_from([None, *range(index)]))
        prompt_ids = draw(token_ids)
        history = draw(st.lists(messages, max_size=3))
        if extends is not None:
            extended = records[extends]
            prompt_ids = extended.prompt_ids + extended.completion.token_ids + prompt_ids
            history = [*extended.call.messages, *history]
        sampled = draw(token_ids)
        records.append(
            CallRecord(
                call=ChatCall(
                    agent=agent,
                    role=draw(texts),
                    index=index,
                    messages=tuple(history),
                    tools=draw(tools),
                ),
                reply=draw(replies),
                prompt_ids=prompt_ids,
                completion=Completion(
                    token_ids=sampled,
                    logprobs=tuple(draw(floats) for _ in sampled),
                    finish_reason=draw(st.sampled_from(FinishReason)),
                    policy_version=draw(st.integers(0, 10**6)),
                    version_changes=draw(version_changes),
                ),
                extends=extends,
                params=SamplingParams(temperature=draw(st.floats(0, 2)), max_tokens=8),
            )
        )
    return records


@st.composite
def logged_episodes(draw: st.DrawFn) -> LoggedEpisode:
    calls = [*draw(agents_calls("alice")), *draw(agents_calls("bob"))]
    episode = Episode(
        key=EpisodeKey(draw(texts), draw(st.integers(0, 9)), 1, 2),
        task_id=draw(texts),
        calls=tuple(calls),
        status=draw(st.sampled_from(EpisodeStatus)),
        reason=draw(texts),
        by_chance=draw(st.booleans()),
        rewards=draw(st.dictionaries(texts, floats, max_size=2)),
        call_rewards=draw(st.dictionaries(texts, st.tuples(floats, floats), max_size=2)),
        success=draw(st.booleans()),
        metrics=draw(st.dictionaries(texts, floats, max_size=2)),
        attempts=draw(st.integers(1, 3)),
    )
    return LoggedEpisode(
        episode=episode, masked=tuple(draw(st.none() | texts) for _ in episode.calls)
    )


def reads_the_same(first: LoggedEpisode, second: LoggedEpisode) -> bool:
    """Compare by ``repr``: it shows every bit of a float, the sign of zero and tool-call ids."""
    return repr(first) == repr(second)


@given(st.lists(logged_episodes(), max_size=3))
def test_episodes_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, episodes: list[LoggedEpisode]
) -> None:
    path = tmp_path_factory.getbasetemp() / "step-000000.jsonl.gz"
    write_episodes(path, episodes)
    restored = list(read_episodes(path))

    assert len(restored) == len(episodes)
    for first, second in zip(episodes, restored, strict=True):
        assert reads_the_same(first, second)


def call(
    index: int, prompt_ids: tuple[int, ...], sampled: tuple[int, ...], extends: int | None
) -> CallRecord:
    history = tuple(ChatMessage(role=ChatRole.USER, text=str(turn)) for turn in range(index + 1))
    return CallRecord(
        call=ChatCall(agent="solver", role="solver", index=index, messages=history),
        reply=ChatReply(text="ok"),
        prompt_ids=prompt_ids,
        completion=Completion(
            token_ids=sampled,
            logprobs=(-0.1,) * len(sampled),
            finish_reason=FinishReason.STOP,
            policy_version=0,
        ),
        extends=extends,
        params=SamplingParams(),
    )


def logged(*calls: CallRecord) -> LoggedEpisode:
    episode = Episode(
        key=EpisodeKey("train", 0, 0, 0),
        task_id="t",
        calls=calls,
        status=EpisodeStatus.COMPLETED,
        rewards={"solver": 1.0},
    )
    return LoggedEpisode(episode=episode, masked=(None,) * len(calls))


@pytest.mark.parametrize(
    "output", [None, True, 7, -0.0, 1e-320, "\u00fc\n", [1, [2.5]], {"a": {"b": None}}]
)
def test_what_was_judged_and_given_comes_back_too(output: JsonValue) -> None:
    first = logged()
    result = WorkflowResult(output=output, truncated=True, metrics={"turns": math.inf, "n": 0.1})
    given = (GivenReward("ann", 0.5, 1), GivenReward("bob", -math.inf, 0))
    episode = replace(first, episode=replace(first.episode, result=result, given=given))
    written = json.loads(json.dumps(encode_episode(episode), allow_nan=False))
    assert reads_the_same(decode_episode(written), episode)


@pytest.mark.parametrize(
    ("reason", "by_chance"),
    [("deadline: an episode may take 1 s", True), ("ServiceLostError: it has ended", False)],
)
def test_a_log_of_an_earlier_version_tells_chance_by_the_deadline(
    reason: str, by_chance: bool
) -> None:
    whole = logged()
    failed = replace(whole.episode, status=EpisodeStatus.FAILED, reason=reason)
    fields = encode_episode(replace(whole, episode=failed))
    del fields["by_chance"]
    assert decode_episode(fields).episode == replace(failed, by_chance=by_chance)


def test_only_what_is_new_in_a_call_is_written() -> None:
    episode = logged(call(0, (1, 2), (3,), None), call(1, (1, 2, 3, 4, 5), (6,), 0))
    first, second = encode_episode(episode)["calls"]
    assert first["new_prompt_ids"] == (1, 2)
    assert second["new_prompt_ids"] == (4, 5)
    assert [message["text"] for message in second["new_messages"]] == ["1"]
    assert decode_episode(encode_episode(episode)) == episode


def test_a_call_that_does_not_extend_what_it_names_is_refused() -> None:
    episode = logged(call(0, (1, 2), (3,), None), call(1, (1, 2, 9, 4), (6,), 0))
    with pytest.raises(ValueError, match="must begin with the 3 tokens of call 0"):
        encode_episode(episode)


def test_tool_call_ids_are_kept_though_they_do_not_count_in_comparisons() -> None:
    def with_id(index: int, call_id: str) -> CallRecord:
        plain = call(index, (1,), (2,), None)
        asked = ChatMessage(role=ChatRole.ASSISTANT, tool_calls=(ToolCall("add", "{}", call_id),))
        return CallRecord(
            call=ChatCall(agent="solver", role="solver", index=index, messages=(asked,)),
            reply=plain.reply,
            prompt_ids=plain.prompt_ids,
            completion=plain.completion,
            extends=None,
            params=plain.params,
        )

    episode = decode_episode(encode_episode(logged(with_id(0, "a"), with_id(1, "b")))).episode
    assert [record.call.messages[0].tool_calls[0].id for record in episode.calls] == ["a", "b"]


def test_a_log_is_strict_json_a_line_an_episode(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    path = tmp_path / "step-000000.jsonl"
    write_episodes(path, [logged(call(0, (1,), (2,), None))] * 2)
    lines = path.read_text(encoding="ascii").splitlines()
    assert [json.loads(line, parse_constant=refuse)["task_id"] for line in lines] == ["t", "t"]


def test_the_same_episodes_give_the_same_bytes(tmp_path: Path) -> None:
    episodes = [logged(call(0, (1,), (2,), None))]
    for name in ("first.jsonl.gz", "second.jsonl.gz"):
        write_episodes(tmp_path / name, episodes)
    first, second = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert first == second
    assert first[4:8] == bytes(4), "the gzip header holds no time"


def test_a_log_that_was_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "step-000000.jsonl.gz"
    write_episodes(path, [logged(call(0, (1,), (2,), None))])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UnusableInputError, match=r"step-000000\.jsonl\.gz:"):
        list(read_episodes(path))


@pytest.mark.parametrize("line", [b"{}", b"[]", b"1", b"{", b"\xff"])
def test_a_line_that_is_no_episode_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "step-000000.jsonl.gz"
    write_episodes(path, [logged()])
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + line + b"\n"))
    with pytest.raises(UnusableInputError, match=r"step-000000\.jsonl\.gz:2: "):
        list(read_episodes(path))


def test_an_absent_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="step-000009"):
        list(read_episodes(tmp_path / "step-000009.jsonl.gz"))

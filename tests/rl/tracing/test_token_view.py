"""Each token is shown with what became of it, and nothing in it can hide."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_rl.tracing.episode_json import LoggedEpisode
from astuner_rl.tracing.token_view import MAX_TOKENS, TokenSpan, view_episode
from astuner_rl.types import (
    CallRecord,
    Completion,
    Episode,
    EpisodeKey,
    EpisodeStatus,
    FinishReason,
    SamplingParams,
)

TEXTS = {1: "Hi", 2: "\n", 3: "", 4: "\u202eabc\x00", 5: "a\tb", 6: "\ud800", 7: "é🙂"}


def decode(token_ids: Sequence[int]) -> list[str]:
    return [TEXTS[token] for token in token_ids]


def call(
    index: int,
    prompt_ids: tuple[int, ...],
    token_ids: tuple[int, ...],
    *,
    logprobs: tuple[float, ...] | None = None,
    extends: int | None = None,
) -> CallRecord:
    return CallRecord(
        call=ChatCall(agent="solver", role="player", index=index, messages=()),
        reply=ChatReply(text=""),
        prompt_ids=prompt_ids,
        completion=Completion(
            token_ids=token_ids,
            logprobs=logprobs or (0.0,) * len(token_ids),
            finish_reason=FinishReason.LENGTH,
            policy_version=4,
        ),
        extends=extends,
        params=SamplingParams(temperature=0.7),
    )


def logged(
    *calls: CallRecord, masked: tuple[str | None, ...], success: bool = True
) -> LoggedEpisode:
    episode = Episode(
        key=EpisodeKey("train", 4, 0, 2),
        task_id="t-9",
        calls=calls,
        status=EpisodeStatus.TRUNCATED,
        reason="turns ran out",
        rewards={"solver": 0.5},
        success=success,
        metrics={"workflow/turns": 2},
    )
    return LoggedEpisode(episode=episode, masked=masked)


def test_an_episode_is_told_in_words() -> None:
    view = view_episode(logged(call(0, (1,), (1,)), masked=(None,), success=False), decode=decode)
    assert view.heading == "t-9 · train · policy 4 · sample 2"
    assert view.outcome == "truncated"
    assert view.facts == ("reward 0.5 (solver)", "workflow/turns 2", "turns ran out")
    (shown,) = view.calls
    assert shown.heading == "solver · call 0"
    assert shown.facts == (
        "role player",
        "1 tokens",
        "ended by length",
        "temperature 0.7",
        "policy version 4",
        "trained",
    )


def test_only_what_is_new_in_a_prompt_is_context() -> None:
    first, second = call(0, (1, 2), (1,)), call(1, (1, 2, 1, 5, 7), (1,), extends=0)
    view = view_episode(logged(first, second, masked=(None, None)), decode=decode)
    assert [span.text for span in view.calls[1].context] == ["a⇥\tb", "é🙂"]
    assert view.calls[1].context_heading == "2 tokens of context, behind all of call 0"


def test_a_trained_token_tells_its_log_prob_and_how_likely_it_was() -> None:
    logprobs = (-0.01, -0.3, -1.0, -4.60517)
    view = view_episode(
        logged(call(0, (), (1, 1, 1, 1), logprobs=logprobs), masked=(None,)), decode=decode
    )
    assert [span.kind for span in view.calls[0].reply] == [
        f"trained unlikely-{level}" for level in range(4)
    ]
    assert view.calls[0].reply[3].title == "token 1 · log-prob -4.6052 · probability 0.01 · trained"


def test_a_token_that_is_not_trained_says_why() -> None:
    view = view_episode(logged(call(0, (), (1,)), masked=("untrained_role",)), decode=decode)
    assert view.calls[0].reply == (
        TokenSpan(
            "Hi",
            "masked",
            "token 1 · log-prob 0.0000 · probability 1 · not trained: untrained_role",
        ),
    )
    assert view.calls[0].facts[-1] == "not trained: untrained_role"


@pytest.mark.parametrize(
    ("token", "text"),
    [(2, "⏎\n"), (3, "∅"), (4, "\\u202eabc\\u0000"), (5, "a⇥\tb"), (6, "\\ud800"), (7, "é🙂")],
)
def test_what_would_not_show_is_spelled_out(token: int, text: str) -> None:
    view = view_episode(logged(call(0, (), (token,)), masked=(None,)), decode=decode)
    assert view.calls[0].reply[0].text == text


def test_a_long_episode_is_cut_between_calls_and_says_so() -> None:
    long = [call(index, (), (1,) * MAX_TOKENS) for index in range(4)]
    view = view_episode(logged(*long, masked=(None,) * 4), decode=decode)
    assert (len(view.calls), view.left_out) == (2, 2)

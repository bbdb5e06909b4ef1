"""A judge's model behind an address, against a real server on this machine."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence

import pytest

from astuner_gym.errors import JudgeError, SettingError
from astuner_gym.judging import asking
from astuner_gym.judging.endpoint import ChatEndpoint, EndpointConfig
from astuner_gym.testing.chat_server import AnswerFunction, ChatServer, Refusal

KEY = "sk-secret-0123456789"
KEY_ENV = "ASTUNER_TEST_KEY"
QUESTION = ({"role": "user", "content": "A number?"},)


@pytest.fixture(autouse=True)
def key_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setattr(asking, "_FIRST_PAUSE_S", 0.001)


def number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("a number is wanted")
    return int(text)


def config(server: ChatServer, **settings: float) -> EndpointConfig:
    chosen = {"attempts": 3, "timeout_s": 20.0, **settings}
    return EndpointConfig(server.url, "scripted", api_key_env=KEY_ENV, **chosen)  # type: ignore[arg-type]


def ask(server: ChatServer, *questions: str, **settings: float) -> list[int]:
    """Ask all questions at once."""

    async def run() -> list[int]:
        endpoint = ChatEndpoint(config(server, **settings))
        asked = [[{"role": "user", "content": question}] for question in questions]
        try:
            return await asyncio.gather(*(endpoint.ask(each, parse=number) for each in asked))
        finally:
            await endpoint.close()

    return asyncio.run(run())


def in_turn(*answers: str | Refusal) -> AnswerFunction:
    rest = iter(answers)
    return lambda messages: next(rest)


def test_a_question_is_sent_and_its_answer_parsed() -> None:
    with ChatServer(lambda messages: "<think>\nHm.\n</think>\n\n 12 \n") as server:
        assert ask(server, "A number?", temperature=0.5, max_tokens=17) == [12]
    assert server.requests == [
        {
            "model": "scripted",
            "messages": [{"role": "user", "content": "A number?"}],
            "temperature": 0.5,
            "max_tokens": 17,
        }
    ]
    assert server.keys == {f"Bearer {KEY}"}


def test_an_unusable_answer_is_asked_for_again_with_the_reason() -> None:
    with ChatServer(in_turn("twelve", "", "12")) as server:
        assert ask(server, "A number?") == [12]
    first, second, third = (request["messages"] for request in server.requests)
    assert [each["role"] for each in second] == ["user", "assistant", "user"]
    assert second[:1] == first
    assert second[1]["content"] == "twelve"
    assert "a number is wanted" in second[2]["content"]
    assert len(third) == 3  # it does not grow with each attempt


def cut(text: str) -> Refusal:
    choice = {"message": {"content": text}, "finish_reason": "length"}
    return Refusal(200, json.dumps({"choices": [choice]}))


def test_an_answer_that_was_cut_short_is_not_taken_whatever_it_seems_to_say() -> None:
    with ChatServer(in_turn(cut("1"), "12")) as server:
        assert ask(server, "A number?", max_tokens=1) == [12]
    assert "cut short, by judge.max_tokens=1" in server.requests[1]["messages"][2]["content"]
    with (
        ChatServer(lambda messages: cut("1")) as server,
        pytest.raises(JudgeError, match=r"cut short, by judge\.max_tokens=512.*it said '1'"),
    ):
        ask(server, "A number?", attempts=2)


def test_a_server_that_fails_for_a_while_is_asked_again() -> None:
    with ChatServer(in_turn(Refusal(503), Refusal(429, retry_after="0"), "7")) as server:
        assert ask(server, "A number?") == [7]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (["one", "two"], "a number is wanted; it said 'two'"),
        ([Refusal(500, "{}"), Refusal(500, "oops")], "HTTP status 500"),
        ([Refusal(200, "<html>"), Refusal(200, '{"choices": []}')], "1 validation error"),
    ],
)
def test_when_all_attempts_are_used_up_the_question_fails_by_name(
    answers: Sequence[str | Refusal], reason: str
) -> None:
    with (
        ChatServer(in_turn(*answers)) as server,
        pytest.raises(JudgeError, match=rf"within 2 attempts \(judge.attempts\).*{reason}"),
    ):
        ask(server, "A number?", attempts=2)
    assert len(server.requests) == 2


def test_a_refusal_that_will_not_pass_is_not_repeated_and_shows_no_key() -> None:
    body = json.dumps({"error": {"message": f"the key {KEY} is unknown"}})
    with ChatServer(lambda messages: Refusal(401, body)) as server:
        with pytest.raises(JudgeError, match=r"refused: HTTP status 401.*\[redacted\]") as raised:
            ask(server, "A number?")
        assert KEY not in str(raised.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("lead", range(120, 170, 8))
def test_no_half_of_a_key_is_shown_where_a_long_message_is_cut(lead: int) -> None:
    body = json.dumps({"error": {"message": f"{'x' * lead}{KEY}{'y' * 200}"}})
    with (
        ChatServer(lambda messages: Refusal(401, body)) as server,
        pytest.raises(JudgeError) as raised,
    ):
        ask(server, "A number?")
    assert KEY[:6] not in str(raised.value)


def test_an_attempt_ends_after_its_time_however_the_server_dawdles() -> None:
    released = threading.Event()

    def answer(messages: Sequence[Mapping[str, str]]) -> str:
        released.wait(20)
        return "1"

    with ChatServer(answer, concurrent=True) as server:
        try:
            with pytest.raises(JudgeError, match=r"may take 0\.05 s \(judge\.timeout_s\)"):
                ask(server, "A number?", attempts=1, timeout_s=0.05)
        finally:
            released.set()


def test_nobody_at_the_address_fails_by_name() -> None:
    with ChatServer(lambda messages: "1") as server:
        pass
    with pytest.raises(JudgeError, match="Connection error"):
        ask(server, "A number?", attempts=2)


def test_the_same_question_is_paid_for_once_even_when_asked_at_once() -> None:
    with ChatServer(lambda messages: str(len(server.requests))) as server:
        assert ask(server, "a", "a", "b", "a") in ([1, 1, 2, 1], [2, 2, 1, 2])
    assert len(server.requests) == 2


def test_the_same_question_fails_once_for_all_who_ask_it_at_once() -> None:
    with ChatServer(lambda messages: "none") as server, pytest.raises(ExceptionGroup) as failed:
        asyncio.run(all_failing(server, asked=3))
    assert [type(error) for error in failed.value.exceptions] == [JudgeError] * 3
    assert len(server.requests) == 2


def test_a_question_that_failed_is_asked_anew_later() -> None:
    async def run(server: ChatServer) -> int:
        endpoint = ChatEndpoint(config(server, attempts=1))
        try:
            with pytest.raises(JudgeError, match="a number is wanted") as failed:
                await endpoint.ask(QUESTION, parse=number)
            assert failed.value.__traceback__ is not None  # the error is still held
            return await endpoint.ask(QUESTION, parse=number)
        finally:
            await endpoint.close()

    with ChatServer(in_turn("none", "12")) as server:
        assert asyncio.run(run(server)) == 12


async def all_failing(server: ChatServer, *, asked: int) -> None:
    endpoint = ChatEndpoint(config(server, attempts=2))
    try:
        answers = await asyncio.gather(
            *(endpoint.ask(QUESTION, parse=number) for _ in range(asked)), return_exceptions=True
        )
        raise ExceptionGroup("all", [each for each in answers if isinstance(each, Exception)])
    finally:
        await endpoint.close()


def test_a_question_at_another_temperature_or_of_another_parser_is_asked_anew() -> None:
    async def run(server: ChatServer) -> list[object]:
        endpoint = ChatEndpoint(config(server))
        try:
            return [
                await endpoint.ask(QUESTION, parse=str),
                await endpoint.ask(QUESTION, parse=str, temperature=1.0),
                await endpoint.ask(QUESTION, parse=number),
                await endpoint.ask(QUESTION, parse=str),
            ]
        finally:
            await endpoint.close()

    with ChatServer(in_turn("one", "uno", "1")) as server:
        assert asyncio.run(run(server)) == ["one", "uno", 1, "1"]


def test_so_many_requests_are_in_flight_and_no_more() -> None:
    lock, together = threading.Lock(), threading.Barrier(2)
    flying, most = 0, 0

    def answer(messages: Sequence[Mapping[str, str]]) -> str:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        together.wait(20)  # passes only if two are in flight
        with lock:
            flying -= 1
        return "1"

    with ChatServer(answer, concurrent=True) as server:
        assert ask(server, *"abcdef", concurrency=2) == [1] * 6
    assert most == 2


def test_one_endpoint_serves_several_event_loops() -> None:
    with ChatServer(lambda messages: "1") as server:
        endpoint = ChatEndpoint(config(server, concurrency=1))

        async def run(questions: str) -> list[int]:
            asked = [[{"role": "user", "content": each}] for each in questions]
            answers = await asyncio.gather(*(endpoint.ask(each, parse=number) for each in asked))
            await endpoint.close()
            return answers

        assert asyncio.run(run("abc")) == [1, 1, 1]
        assert asyncio.run(run("def")) == [1, 1, 1]


def test_a_server_is_checked_before_a_run() -> None:
    async def check(endpoint: ChatEndpoint) -> None:
        try:
            await endpoint.check()
        finally:
            await endpoint.close()

    with ChatServer(lambda messages: "1") as server:
        asyncio.run(check(ChatEndpoint(config(server))))
    with pytest.raises(SettingError, match=r"judge\.base_url must be the address of an API"):
        asyncio.run(check(ChatEndpoint(config(server))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:80"}, r"judge\.base_url must be an http"),
        ({"base_url": f"http://me:{KEY}@host/v1"}, r"without user and password"),
        ({"api_key_env": KEY}, r"judge\.api_key_env must be the name"),
        ({"model": " "}, r"judge\.model must name"),
        ({"temperature": -1.0}, r"judge\.temperature must be between 0 and 2, got -1"),
        ({"timeout_s": float("nan")}, r"judge\.timeout_s must be > 0 and finite, got nan"),
        ({"attempts": 0}, r"judge\.attempts must be >= 1, got 0"),
        ({"concurrency": 0}, r"judge\.concurrency must be >= 1, got 0"),
        ({"max_tokens": 0}, r"judge\.max_tokens must be >= 1, got 0"),
    ],
)
def test_settings_that_break_a_rule_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message) as raised:
        EndpointConfig(**{"base_url": "http://h/v1", "model": "m", **settings})  # type: ignore[arg-type]
    assert KEY not in str(raised.value)

"""Agents behind OpenAI's chat protocol, against a real server on this machine."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest
from agentscope.message import UserMsg

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, ToolCall
from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl import evaluate, train
from astuner_rl.errors import CallBudgetError, SamplerError
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.rollout.groups import collect_groups
from astuner_rl.samplers.openai import EndpointPolicy
from astuner_rl.types import CallRecord, EpisodeKey, EpisodeStatus, FinishReason, SamplingParams

KEY = "sk-secret-0123456789"
KEY_ENV = "ASTUNER_TEST_KEY"
EPISODE = EpisodeKey("eval/heldout", 0, 0, 0)
TOOLS = ({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},)

Json: TypeAlias = dict[str, Any]
T = TypeVar("T")


@dataclass
class Answer:
    """What the server sends back."""

    body: object
    """JSON, or the bytes themselves."""
    status: int = 200


def completion(
    content: str | None = None,
    *,
    finish: str = "stop",
    calls: Sequence[tuple[str, str]] = (),
    **message: str,
) -> Answer:
    """Return a chat completion as OpenAI's reference has it."""
    tool_calls = [
        {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(calls)
    ]
    said = {"role": "assistant", "content": content, **message}
    return Answer(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "expert",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish,
                    "message": said | ({"tool_calls": tool_calls} if tool_calls else {}),
                }
            ],
            "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
        }
    )


MODELS = Answer({"object": "list", "data": [{"id": "expert", "object": "model"}]})


@dataclass
class ChatServer:
    """A server whose answers a test sets, and what it was asked."""

    url: str
    answer: Callable[[Json], Answer] = lambda request: completion("Hello.")
    models: Answer = field(default_factory=lambda: MODELS)
    requests: list[Json] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/v1/models"
            self._send(chat.models)

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                chat.requests.append(request)
                chat.keys.add(self.headers["Authorization"])
                answer = chat.answer(request)
            self._send(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _send(self, answer: Answer) -> None:
            body = answer.body if isinstance(answer.body, bytes) else _encoded(answer.body)
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("retry-after-ms", "1")  # so that failing requests fail fast
            self.end_headers()
            self.wfile.write(body)

    lock = threading.Lock()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    chat = ChatServer(url=f"http://127.0.0.1:{http.server_port}/v1")
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield chat
    http.shutdown()
    http.server_close()
    thread.join()


def _encoded(body: object) -> bytes:
    return json.dumps(body).encode()


@pytest.fixture(autouse=True)
def key_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)


def using(server: ChatServer, use: Callable[[EndpointPolicy], Coroutine[Any, Any, T]]) -> T:
    """Use a policy of the server's and close it."""

    async def run() -> T:
        policy = EndpointPolicy(base_url=server.url, model="expert", api_key_env=KEY_ENV)
        try:
            return await use(policy)
        finally:
            await policy.close()

    return asyncio.run(run())


def call(*messages: ChatMessage, index: int = 0, tools: bool = False) -> ChatCall:
    question = ChatMessage(role=ChatRole.USER, text="What is 1+2?")
    return ChatCall(
        agent="solver",
        role="solver",
        index=index,
        messages=(question, *messages),
        tools=TOOLS if tools else (),
    )


def respond(server: ChatServer, *calls: ChatCall, max_calls: int = 9) -> tuple[CallRecord, ...]:
    async def use(policy: EndpointPolicy) -> tuple[CallRecord, ...]:
        params = SamplingParams(temperature=0.3, max_tokens=17)
        responder = policy.open(EPISODE, params=params, max_calls=max_calls)
        for each in calls:
            await responder.respond(each)
        responder.release()
        return responder.records

    return using(server, use)


def reply(server: ChatServer) -> ChatReply:
    (record,) = respond(server, call())
    return record.reply


def test_a_call_is_sent_and_answered(server: ChatServer) -> None:
    (record,) = respond(server, call())
    assert record.reply == ChatReply(text="Hello.", prompt_tokens=11, completion_tokens=3)
    assert record.completion.finish_reason is FinishReason.STOP
    assert (record.prompt_ids, record.completion.token_ids) == ((), ())  # nothing to train on
    assert server.requests == [
        {
            "model": "expert",
            "messages": [{"role": "user", "content": "What is 1+2?"}],
            "temperature": 0.3,
            "max_tokens": 17,
        }
    ]
    assert server.keys == {f"Bearer {KEY}"}


def test_tool_calls_go_both_ways(server: ChatServer) -> None:
    arguments = '{"a": 1,  "b":2}'
    server.answer = lambda request: completion(calls=[("add", arguments), ("add", "{}")])
    (record,) = respond(server, call(tools=True))
    assert record.reply.text == ""
    assert record.reply.tool_calls == (ToolCall("add", arguments), ToolCall("add", "{}"))
    kept = record.reply.with_call_ids("solver-0")
    said = ChatMessage(role=ChatRole.ASSISTANT, tool_calls=kept.tool_calls)
    result = ChatMessage(role=ChatRole.TOOL, text="3", tool_call_id="solver-0-0", name="add")
    respond(server, call(said, result, tools=True))
    assert server.requests[1]["tools"] == list(TOOLS)
    assert server.requests[1]["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": f"solver-0-{position}",
                    "type": "function",
                    "function": {"name": "add", "arguments": text},
                }
                for position, text in enumerate((arguments, "{}"))
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "solver-0-0", "name": "add"},
    ]


def test_thinking_is_kept_apart_from_the_text(server: ChatServer) -> None:
    server.answer = lambda request: completion("<think>\nHm.\n</think>\n\nThree.")
    assert (reply(server).thinking, reply(server).text) == ("Hm.", "Three.")
    server.answer = lambda request: completion("Three.", reasoning_content="Hm.")
    assert (reply(server).thinking, reply(server).text) == ("Hm.", "Three.")


def test_a_reply_that_ran_out_of_tokens_says_so(server: ChatServer) -> None:
    server.answer = lambda request: completion("Thr", finish="length")
    (record,) = respond(server, call())
    assert record.completion.finish_reason is FinishReason.LENGTH


def test_records_are_sorted_and_calls_are_budgeted(server: ChatServer) -> None:
    records = respond(server, call(index=1), call(index=0))
    assert [record.call.index for record in records] == [0, 1]
    with pytest.raises(CallBudgetError, match=r"at most 1 calls and solver asks for one more"):
        respond(server, call(), call(index=1), max_calls=1)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome</html>",
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"message": {"tool_calls": [{"function": {"name": "f"}}]}}]},
        {"choices": [{"message": {"content": ["not", "text"]}}]},
        [1],
    ],
)
def test_an_answer_of_another_form_is_the_servers_failure(server: ChatServer, body: object) -> None:
    server.answer = lambda request: Answer(body)
    with pytest.raises(SamplerError, match="the endpoint failed: 1 validation error"):
        respond(server, call())


class Greeting:
    """One call of one agent."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        response = await models["ann"]([UserMsg("user", task.text("question"))])
        return WorkflowResult(output=response.id)  # type: ignore[union-attr]


def test_a_server_that_fails_fails_the_episode_and_scores_nothing(server: ChatServer) -> None:
    refusal = {"error": {"message": f"overloaded; the key {KEY} was charged nothing"}}

    def answer(request: Mapping[str, Any]) -> Answer:
        broken = request["messages"][0]["content"] == "Fail."
        return Answer(refusal, status=500) if broken else completion("Hello.")

    server.answer = answer
    tasks = RecordTasks("t", [{"question": "Fail."}, {"question": "Hello?"}])

    async def use(policy: EndpointPolicy) -> list[EpisodeStatus]:
        runner = EpisodeRunner(
            environment=Environment(
                name="greeting",
                workflow=Greeting(),
                judge=FunctionJudge(lambda task, result: 1.0),
                train_tasks=tasks,
            ),
            policy=policy,
            config=RolloutConfig(attempts=1),
        )
        groups = await collect_groups(
            runner,
            [tasks[0], tasks[1]],
            phase="train",
            step=0,
            samples=1,
            params=SamplingParams(),
        )
        failed, completed = (group.episodes[0] for group in groups)
        assert (failed.rewards, failed.success, failed.calls) == ({}, False, ())
        assert failed.reason.startswith("SamplerError: the endpoint failed: ")
        assert "overloaded; the key [redacted] was charged nothing" in failed.reason
        assert completed.rewards == {"ann": 1.0}
        return [failed.status, completed.status]

    assert using(server, use) == [EpisodeStatus.FAILED, EpisodeStatus.COMPLETED]
    assert len(server.requests) == 4  # the failing one was sent again twice


async def check(policy: EndpointPolicy) -> None:
    await policy.check()


def test_a_server_that_lists_its_models_passes_the_check(server: ChatServer) -> None:
    using(server, check)


@pytest.mark.parametrize(
    "models", [Answer(b"<html>Welcome</html>"), Answer({}), Answer({"error": "no"}, status=404)]
)
def test_an_address_of_something_else_is_refused(server: ChatServer, models: Answer) -> None:
    server.models = models
    with pytest.raises(SettingError, match=r"must be the address of an API .*127\.0\.0\.1"):
        using(server, check)


def test_a_refused_key_is_not_repeated(server: ChatServer) -> None:
    server.models = Answer({"error": {"message": f"Incorrect API key {KEY}"}}, status=401)
    with pytest.raises(SettingError, match=r"Incorrect API key \[redacted\]") as raised:
        using(server, check)
    assert KEY not in str(raised.value)


# The same server behind the commands.


@pytest.fixture
def settings(server: ChatServer, tmp_path: Path) -> list[str]:
    """Return a command line that asks the server two questions of the GSM8K environment."""
    lines = [
        json.dumps({"question": f"What is {a} * 3?", "answer": f"#### {a * 3}"}) for a in (4, 5)
    ]
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return [
        "env=gsm8k",
        f"env.tasks.path={tmp_path}/tasks.jsonl",
        f"env.tasks.eval_path={tmp_path}/tasks.jsonl",
        "sampler=openai",
        f"sampler.base_url={server.url}",
        "sampler.model=expert",
        f"sampler.api_key_env={KEY_ENV}",
        "rollout.attempts=1",
    ]


@dataclass
class Expert:
    """Calculates with the tool and then answers: rightly, but only now and then."""

    right_in: int
    """The first of so many answers to a question is right."""
    answered: dict[str, int] = field(default_factory=dict)

    def __call__(self, request: Json) -> Answer:
        *_, asked, last = request["messages"]
        if last["role"] == "user":
            expression = last["content"].removeprefix("What is ").removesuffix("?")
            return completion(calls=[("calculator", json.dumps({"expression": expression}))])
        assert asked["role"] == "assistant"
        question = request["messages"][1]["content"]
        count = self.answered.get(question, 0)
        self.answered[question] = count + 1
        right = count % self.right_in == 0
        return completion(f"It is so.\n#### {last['content'] if right else '-1'}")


def figures(printed: str) -> dict[str, dict[str, float]]:
    last: dict[str, dict[str, float]] = json.loads(printed.strip().splitlines()[-1])
    return last


def test_a_server_is_measured(
    server: ChatServer, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = Expert(right_in=4)
    assert evaluate.main([*settings, "eval.samples=4"]) == 0
    measured = figures(capsys.readouterr().out)
    assert {name: interval["mean"] for name, interval in measured.items()} == {
        "heldout/accuracy": 0.25,
        "heldout/reward": 0.25,
        "heldout/pass@2": 0.5,
        "heldout/pass@4": 1.0,
        "heldout/judge/answered": 1.0,
    }


def test_what_an_expert_did_right_is_imitated(
    server: ChatServer,
    settings: list[str],
    hf_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.answer = Expert(right_in=2)
    recorded = tmp_path / "recorded"
    assert evaluate.main([*settings, "eval.samples=4", f"run.dir={recorded}"]) == 0
    lines = (recorded / "demonstrations.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4  # two of four for each question
    messages = json.loads(lines[0])["messages"]
    assert [message["role"] for message in messages] == [
        "system", "user", "assistant", "tool", "assistant"
    ]  # fmt: skip
    assert messages[-1]["content"] == "It is so.\n#### 12"
    assert KEY not in "".join(lines) + "".join(capsys.readouterr())

    run = tmp_path / "imitation"
    command = [
        *settings[:3],
        "algo=sft",
        f"algo.path={recorded}/demonstrations.jsonl",
        "model=hf",
        f"model.path={hf_folder}",
        "sampler.context_length=256",
        "rollout.max_tokens=8",
        "train.steps=1",
        f"run.dir={run}",
    ]
    assert train.main(command) == 0
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [0, 1]


def test_a_failing_server_is_no_measurement(
    server: ChatServer, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = lambda request: Answer({"error": {"message": "out of memory"}}, status=500)
    assert evaluate.main(settings) == 1
    said = capsys.readouterr()
    assert "at least one episode must reach its end, none of 2 did" in said.err
    assert "out of memory" in said.err
    assert said.out == ""


def test_a_wrong_address_is_refused_before_anything_runs(
    settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # Port 9 is assigned to a service that nobody runs: the connection is refused at once.
    assert evaluate.main([*settings, "sampler.base_url=http://127.0.0.1:9/v1"]) == 2
    said = capsys.readouterr().err
    assert "sampler.base_url must be the address of an API" in said
    assert KEY not in said


def test_debugging_prints_the_calls_of_a_server(
    server: ChatServer, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = Expert(right_in=2)
    arguments = ["backbone=debug", "train.steps=1", "train.groups=1", "train.group_size=2"]
    assert train.main([*settings, *arguments]) == 0
    printed = capsys.readouterr().out
    assert "'It is so.\\n#### " in printed
    assert "rewards [1.0, 0.0]" in printed
    assert KEY not in printed


def test_a_server_cannot_be_trained(
    settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(settings) == 2
    assert "training needs a sampler that returns tokens" in capsys.readouterr().err


def test_a_server_plays_the_roles_that_do_not_learn(
    server: ChatServer, hf_folder: Path, tmp_path: Path
) -> None:
    server.answer = lambda request: completion("Ben")
    run = tmp_path / "run"
    settings = [
        "env=werewolves",
        "env.village=model",
        "env.rounds=1",
        "opponent=openai",
        f"opponent.base_url={server.url}",
        "opponent.model=expert",
        f"opponent.api_key_env={KEY_ENV}",
        "model=hf",
        f"model.path={hf_folder}",
        "sampler.context_length=512",
        "sampler.max_sessions=8",
        "rollout.max_tokens=4",
        "train.groups=1",
        "train.group_size=2",
        "train.steps=1",
        "eval.tasks=1",
        f"run.dir={run}",
    ]
    assert train.main(settings) == 0
    line = json.loads((run / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
    assert "reward/werewolf/mean" in line
    assert "tokens/masked/untrained_role" not in line
    assert line["run/exact"] is False  # a server need not answer the same twice
    assert any("villager" in str(request) for request in server.requests)
    kept = "".join(path.read_text("utf-8") for path in run.rglob("*.yaml"))
    assert KEY not in kept


def test_an_opponent_that_does_not_answer_is_found_before_a_run_begins(
    hf_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "env=werewolves",
        "env.village=model",
        "opponent=openai",
        "opponent.base_url=http://127.0.0.1:9/v1",
        "opponent.model=expert",
        "model=hf",
        f"model.path={hf_folder}",
        "sampler.context_length=512",
        f"run.dir={tmp_path / 'run'}",
    ]
    assert train.main(settings) == 2
    assert "opponent.base_url must be the address of an API" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

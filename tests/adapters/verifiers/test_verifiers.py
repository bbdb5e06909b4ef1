"""An evaluation by verifiers, its model a scripted endpoint of OpenAI's chat API on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import verifiers.v1 as vf

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_envs.gsm8k.workflow import SYSTEM_PROMPT
from astuner_gym.adapters.verifiers import WorkflowEnvConfig, plugin
from astuner_gym.errors import SettingError
from tests.adapters.examples import changed, examples

HERE = Path(__file__).parent


class Endpoint:
    """Calculates once in each conversation and then answers 7, whatever was asked."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append(body)
                answer = json.dumps(completion(body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def completion(body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "#### 7"}
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        function = {"name": "calculator", "arguments": '{"expression": "12-5"}'}
        call = {"id": "c", "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [choice],
        "usage": usage,
    }


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def evaluate(
    endpoint: Endpoint, *, taskset: str = "addition_for_verifiers", max_turns: int | None = None
) -> list[vf.Episode]:
    """One episode of each task."""
    config = WorkflowEnvConfig(
        taskset={"id": taskset},
        agent={"max_turns": max_turns, "harness": {"id": taskset}},
    )
    client = vf.EvalClientConfig(base_url=endpoint.url, api_key_var="NO_KEY_IS_NEEDED")
    context = vf.ModelContext(model="scripted", client=client)

    async def play() -> list[vf.Episode]:
        env = vf.load_environment(config)
        async with env.serving():
            return await asyncio.gather(
                *(env.run_slot(env.slots(task)[0], context) for task in env.taskset)
            )

    return asyncio.run(play())


def test_an_evaluation_gives_the_judges_rewards(endpoint: Endpoint) -> None:
    first, second = evaluate(endpoint)
    assert (first.ok, second.ok) == (True, True)
    (trace,) = first.traces
    assert trace.reward == 1.0
    assert trace.metrics == {"success": 1.0, "truncated": 0.0, "judge/answered": 1.0}
    (trace,) = second.traces
    assert trace.reward == 0.0
    assert trace.metrics["success"] == 0.0


def test_the_trace_holds_every_call(endpoint: Endpoint) -> None:
    first, _ = evaluate(endpoint)
    (trace,) = first.traces
    assert trace.num_turns == 2
    (branch,) = trace.branches
    assert [message.role for message in branch.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert branch.messages[0].content == SYSTEM_PROMPT
    assert branch.messages[3].content == "7"
    assert all(request["model"] == "scripted" for request in endpoint.requests)
    names = {request["tools"][0]["function"]["name"] for request in endpoint.requests}
    assert names == {"calculator"}


def test_a_run_that_is_stopped_has_no_result_to_judge(endpoint: Endpoint) -> None:
    first, _ = evaluate(endpoint, max_turns=1)
    assert not first.ok
    assert "raise that limit" in first.traces[0].errors[-1].message


def test_an_agent_and_an_opponent_go_together() -> None:
    with pytest.raises(SettingError, match="go together"):
        plugin(Gsm8kConfig().build(), agent="solver")


def test_agents_with_one_reward_each_do_not_fit_a_run(endpoint: Endpoint) -> None:
    (episode,) = evaluate(endpoint, taskset="duel_for_verifiers")
    assert not episode.ok
    assert "a run has one reward" in episode.traces[0].errors[-1].message


def test_an_opponent_plays_the_others(endpoint: Endpoint) -> None:
    (episode,) = evaluate(endpoint, taskset="duel_with_opponent_for_verifiers")
    assert episode.traces[0].reward == 2.0
    assert len(endpoint.requests) == 1


def test_the_example_in_the_documentation_evaluates(endpoint: Endpoint, tmp_path: Path) -> None:
    module, command = examples("verifiers")
    (tmp_path / "my_gsm8k.py").write_text(module, "utf-8")
    command = changed(command, {"http://127.0.0.1:8000/v1": endpoint.url, "-n 8": "-n 2"})
    subprocess.run(
        ["sh", "-c", command],
        env={
            "PYTHONPATH": str(tmp_path),
            "HOME": str(tmp_path),
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        },
        cwd=tmp_path,
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
    (records,) = tmp_path.rglob("traces.jsonl")
    episodes = [json.loads(line) for line in records.read_text("utf-8").splitlines()]
    assert len(episodes) == 2
    assert all(trace["ok"] for episode in episodes for trace in episode["traces"])

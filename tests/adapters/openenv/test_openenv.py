"""OpenEnv's server and client over loopback: sessions, seeds, rewards, and text in any script."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import uvicorn
from agentscope.message import UserMsg

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_gym.adapters.openenv import Prompt, Reply, WorkflowClient, make_app
from astuner_gym.environment import Environment
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from tests.adapters.examples import changed, examples

TOM = {"question": "Tom has 12 apples and eats 5. How many?", "answer": "#### 7"}
CALCULATE = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "12-5"}}\n</tool_call>'


class Echo:
    """Asks once and returns the reply; the reply ``cut`` counts as cut short."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        reply = await models["speaker"]([UserMsg("user", task.text("say"))])
        text = reply.content[0].text
        return WorkflowResult(output=text, truncated=text == "cut")


ECHO = Environment(
    name="echo",
    workflow=Echo(),
    judge=FunctionJudge(lambda task, result: result.output == task.text("say")),
    train_tasks=RecordTasks(
        "say", [{"say": text} for text in ("héllo", "你好", "مرحبا", "🙂👩‍👩‍👧", "\x00 \u2028\n")]
    ),
)


class Server:
    """Serves an environment on a free port of the loopback address, in a thread."""

    def __init__(self, environment: Environment, *, max_sessions: int = 8) -> None:
        app = make_app(environment, max_sessions=max_sessions)
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
        )
        self._thread = threading.Thread(target=self._uvicorn.run)
        self._thread.start()
        while not self._uvicorn.started:
            time.sleep(0.01)
        port = self._uvicorn.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def close(self) -> None:
        self._uvicorn.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def gsm8k() -> Iterator[str]:
    server = Server(Gsm8kConfig().build())
    yield server.url
    server.close()


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    server = Server(ECHO)
    yield server.url
    server.close()


def episode(url: str, *, seed: int) -> list[Prompt]:
    """What a client sees in an episode in which it calculates once and then answers 7."""
    with WorkflowClient(url).sync() as client:
        results = [client.reset(seed=seed)]
        results += [client.step(Reply(text=text)) for text in (CALCULATE, "#### 7")]
    return [result.observation for result in results]


def test_an_episode_is_played_and_rewarded_at_its_end() -> None:
    tasks = RecordTasks("tom", [TOM])
    environment = Gsm8kConfig().build()
    server = Server(
        Environment(
            name="tom", workflow=environment.workflow, judge=environment.judge, train_tasks=tasks
        )
    )
    with WorkflowClient(server.url).sync() as client:
        result = client.reset(seed=0, episode_id="first")
        assert result.observation.messages[1] == {"role": "user", "content": TOM["question"]}
        assert [tool["function"]["name"] for tool in result.observation.tools] == ["calculator"]
        assert (result.reward, result.done) == (None, False)
        result = client.step(Reply(text=CALCULATE))
        assert (result.observation.text, result.done) == ("tool calculator: 7", False)
        assert result.reward == 0.0
        state = client.state()
        assert (state.episode_id, state.step_count, state.task) == ("first", 1, "tom-0")
        result = client.step(Reply(text="#### 7"))
        assert (result.reward, result.done) == (1.0, True)
        assert (result.observation.success, result.observation.truncated) == (True, False)
        assert result.observation.metrics == {"judge/answered": 1.0}
    server.close()


def test_a_seed_gives_one_episode(gsm8k: str) -> None:
    assert episode(gsm8k, seed=7) == episode(gsm8k, seed=7)
    assert episode(gsm8k, seed=7)[0] != episode(gsm8k, seed=8)[0]


def test_sessions_at_once_do_not_meet(gsm8k: str) -> None:
    alone = [episode(gsm8k, seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: episode(gsm8k, seed=seed), range(6)))
    assert together == alone


@pytest.mark.parametrize("task", range(5))
def test_text_of_any_script_arrives_as_it_was(echo: str, task: int) -> None:
    with WorkflowClient(echo).sync() as client:
        asked = client.reset(task=task).observation.messages[-1]["content"]
        assert asked == ECHO.train_tasks[task].text("say")
        assert client.step(Reply(text=asked)).reward == 1.0
        client.reset(task=task)
        assert client.step(Reply(text=asked + "!")).reward == 0.0


def test_what_was_cut_short_is_done_and_truncated(echo: str) -> None:
    with WorkflowClient(echo).sync() as client:
        client.reset(task=0)
        result = client.step(Reply(text="cut"))
    assert (result.done, result.observation.truncated) == (True, True)


def test_misuse_is_an_error_of_that_session_alone(echo: str) -> None:
    with WorkflowClient(echo).sync() as client, WorkflowClient(echo).sync() as other:
        other.reset(task=1)
        with pytest.raises(RuntimeError, match="call reset"):
            client.step(Reply(text="too early"))
        with pytest.raises(RuntimeError, match=r"must be in 0 … 4"):
            client.reset(task=5)
        client.reset(task=1)
        assert client.step(Reply(text="你好")).reward == 1.0
        assert other.step(Reply(text="你好")).reward == 1.0


def test_closed_sessions_leave_no_thread() -> None:
    def has_thread() -> bool:
        return any(thread.name == "episodes of echo" for thread in threading.enumerate())

    with closing(Server(ECHO)) as server:
        with WorkflowClient(server.url).sync() as client:
            client.reset(task=0)
            assert has_thread()
        for _ in range(500):
            if not has_thread():
                break
            time.sleep(0.01)
        assert not has_thread()


def test_the_examples_in_the_documentation_run(capsys: pytest.CaptureFixture[str]) -> None:
    server_example, client_example = examples("OpenEnv")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = changed(server_example, {"8000": port})
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as server:
        try:
            while server.poll() is None and not listens(int(port)):
                time.sleep(0.05)
            code = changed(client_example, {"8000": port})
            exec(compile(code, "docs/adapters.md", "exec"), {})
        finally:
            server.terminate()
    assert "Solve the problem" in capsys.readouterr().out


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

"""Leases of a small real service: each episode has it alone, and none is scored by a dead one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from agentscope.message import UserMsg

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.env import WorkflowEnv
from astuner_gym.environment import Environment
from astuner_gym.episode import run_episode
from astuner_gym.errors import (
    ServiceError,
    ServiceLostError,
    ServiceStartError,
    SettingError,
    WorkflowError,
)
from astuner_gym.judge import FunctionJudge, Score
from astuner_gym.services.command import HttpProbe, ServiceCommand
from astuner_gym.services.pool import Lease, ServicePool
from astuner_gym.services.service import Patience
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult

T = TypeVar("T")

SERVICE = Path(__file__).with_name("counting_service.py")
COUNTING = ServiceCommand(argv=[sys.executable, "-S", str(SERVICE), "{port}"])
IMPATIENT = Patience(start_s=60.0, answer_s=1.0)


async def ask(lease: Lease, path: str, *, token: str | None = None) -> httpx.Response:
    headers = lease.headers if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60) as client:
        return await client.post(lease.base_url + path, headers=headers)


async def answer(lease: Lease, path: str) -> Any:
    return (await ask(lease, path)).raise_for_status().json()


def with_pool(
    folder: Path,
    use: Callable[[ServicePool], Coroutine[Any, Any, T]],
    *,
    command: ServiceCommand = COUNTING,
    size: int = 1,
) -> T:
    """Use a pool whose services are ready."""

    async def run() -> T:
        async with ServicePool(command, size, folder, patience=IMPATIENT) as pool:
            return await use(pool)

    return asyncio.run(run())


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(come: Callable[[], bool]) -> None:
    """Return when it has come; the test's own deadline is pytest's."""
    while not come():
        time.sleep(0.01)


def folder_of(service: int) -> Path:
    environment = Path(f"/proc/{service}/environ").read_text().split("\0")
    return Path(next(each for each in environment if each.startswith("FOLDER=")).partition("=")[2])


def keepers_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    children = [child for part in listed for child in part.read_text().split()]
    return [
        int(child)
        for child in children
        if b"keeper.py" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


# --- Leases


def test_leases_one_after_the_other_have_the_same_service_and_tokens_of_their_own(
    tmp_path: Path,
) -> None:
    async def use(pool: ServicePool) -> None:
        tokens = set()
        for number in (1, 2, 3):
            async with pool.lease() as lease:
                assert await answer(lease, "/count") == number
                tokens.add(lease.token)
        assert len(tokens) == 3

    with_pool(tmp_path, use)


def test_token_of_an_earlier_lease_is_void(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        async with pool.lease() as earlier:
            pass
        assert (await ask(earlier, "/count")).status_code == 401
        async with pool.lease() as later:
            assert (await ask(later, "/count", token=earlier.token)).status_code == 401
            assert await answer(later, "/count") == 1

    with_pool(tmp_path, use)


def test_lease_is_waited_for_while_others_hold_all_services(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        held: set[str] = set()

        async def episode() -> None:
            async with pool.lease() as lease:
                assert lease.base_url not in held
                held.add(lease.base_url)
                await answer(lease, "/count")
                held.remove(lease.base_url)

        await asyncio.gather(*(episode() for _ in range(12)))

    with_pool(tmp_path, use, size=2)


def test_cancelled_wait_holds_nothing(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        async def wait() -> None:
            async with pool.lease():
                raise AssertionError("the only service was held")

        async with pool.lease() as lease:
            waiting = [asyncio.create_task(wait()) for _ in range(5)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert all(task.cancelled() for task in waiting)
            assert await answer(lease, "/count") == 1
        async with pool.lease() as lease:
            assert await answer(lease, "/count") == 2

    with_pool(tmp_path, use)


def test_wait_that_is_cancelled_at_any_time_loses_no_service(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        async def hold() -> None:
            async with pool.lease():
                await asyncio.sleep(60)

        for turns in range(40):
            holding = asyncio.create_task(hold())
            for _ in range(turns):
                await asyncio.sleep(0)
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
        async with pool.lease() as lease:
            assert await answer(lease, "/count") >= 1

    with_pool(tmp_path, use)


def test_leases_are_taken_from_several_event_loops(tmp_path: Path) -> None:
    pool = ServicePool(COUNTING, 1, tmp_path)
    counted: list[int] = []

    async def count() -> None:
        async with pool.lease() as lease:
            counted.append(await answer(lease, "/count"))

    threads = [threading.Thread(target=asyncio.run, args=[count()]) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        pool.close()
    assert sorted(counted) == [1, 2, 3]


# --- Failures


@pytest.mark.parametrize("swallowed", [False, True])
def test_episode_whose_service_dies_fails_by_name(swallowed: bool, tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        with pytest.raises(ServiceLostError, match=r"service-0\.log"):
            async with pool.lease() as lease:
                assert await answer(lease, "/count") == 1
                try:
                    await ask(lease, "/die")
                except httpx.HTTPError:
                    if not swallowed:
                        raise
        async with pool.lease() as lease:  # another process, which knows nothing of the first one
            assert await answer(lease, "/count") == 1

    with_pool(tmp_path, use)


def test_service_that_dies_between_leases_is_not_leased(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        async with pool.lease() as lease:
            service = httpx.get(lease.base_url, headers=lease.headers).json()
        os.kill(service, signal.SIGKILL)
        async with pool.lease() as lease:
            assert await answer(lease, "/count") == 1

    with_pool(tmp_path, use)


def test_service_that_stops_answering_is_replaced(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        with pytest.raises(ServiceLostError):
            async with pool.lease() as lease:
                service = httpx.get(lease.base_url, headers=lease.headers).json()
                os.kill(service, signal.SIGSTOP)
        async with pool.lease() as lease:
            assert await answer(lease, "/count") == 1
        wait_until(lambda: not alive(service))

    with_pool(tmp_path, use)


def test_service_is_replaced_after_an_exception_in_the_lease(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        with pytest.raises(KeyError, match="of the workflow"):
            async with pool.lease() as lease:
                assert await answer(lease, "/count") == 1
                raise KeyError("of the workflow")
        async with pool.lease() as lease:
            assert await answer(lease, "/count") == 1

    with_pool(tmp_path, use)


def test_request_of_a_cancelled_episode_does_not_reach_the_next_one(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        async def hang() -> None:
            async with pool.lease() as lease:
                began.set()
                await ask(lease, "/hang")

        began = asyncio.Event()
        hanging = asyncio.create_task(hang())
        await began.wait()
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        assert hanging.cancelled()
        async with pool.lease() as lease:
            assert await answer(lease, "/count") == 1

    with_pool(tmp_path, use)


def test_discarded_service_is_replaced(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        async with pool.lease() as lease:
            assert await answer(lease, "/count") == 1
            lease.discard()
        async with pool.lease() as lease:
            assert await answer(lease, "/count") == 1

    with_pool(tmp_path, use)


def test_check_tells_of_the_death_during_a_lease(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        with pytest.raises(ServiceLostError):
            async with pool.lease() as lease:
                lease.check()
                with pytest.raises(httpx.HTTPError):
                    await ask(lease, "/die")
                while True:
                    lease.check()
                    await asyncio.sleep(0.01)

    with_pool(tmp_path, use)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["/no/such/program"], "ended with 127"),
        ([sys.executable, "-c", "import sys; sys.exit(3)"], "ended with 3"),
        ([sys.executable, "-c", "import sys; sys.exit('no licence')"], "(?s)log.*no licence"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "ready within 0.5 s"),
    ],
)
def test_service_that_cannot_start_fails_whoever_waits(
    argv: list[str], reason: str, tmp_path: Path
) -> None:
    async def run() -> None:
        patience = Patience(start_s=0.5 if "within" in reason else 60.0)
        pool = ServicePool(ServiceCommand(argv=argv), 1, tmp_path, patience=patience)
        try:
            with pytest.raises(ServiceStartError, match=reason):
                async with pool.lease():
                    pass
        finally:
            pool.close()

    asyncio.run(run())


def test_services_that_never_get_ready_end_with_the_pool(tmp_path: Path) -> None:
    async def run() -> None:
        command = ServiceCommand(argv=[sys.executable, "-c", "import time; time.sleep(60)"])
        with pytest.raises(ServiceStartError, match=r"ready within 0\.5 s"):
            async with ServicePool(command, 4, tmp_path, patience=Patience(start_s=0.5)):
                pass

    asyncio.run(run())
    assert keepers_of(os.getpid()) == []


def test_service_that_starts_at_last_is_waited_for(tmp_path: Path) -> None:
    """Its failures before are no reason to refuse a lease while another episode has it."""
    tries = tmp_path / "tries"
    argv = [
        *["sh", "-c", 'echo >> "$1"; test $(wc -l < "$1") -gt 3 || exit 3; shift; exec "$@"'],
        *["sh", str(tries), *COUNTING.argv],
    ]

    async def run() -> None:
        pool = ServicePool(ServiceCommand(argv=argv), 1, tmp_path, patience=IMPATIENT)
        try:
            with pytest.raises(ServiceStartError, match="ended with 3"):
                async with pool.lease():
                    pass
            while len(tries.read_text()) < 4:
                await asyncio.sleep(0.01)
            first = await take(pool)
            second = asyncio.create_task(take(pool))
            await asyncio.sleep(0.2)
            await first.aclose()
            await (await second).aclose()
        finally:
            pool.close()

    async def take(pool: ServicePool) -> contextlib.AsyncExitStack:
        """Wait for a lease, also while no service can be started."""
        held = contextlib.AsyncExitStack()
        while True:
            try:
                await held.enter_async_context(pool.lease())
            except ServiceStartError:
                assert not begun, "the service has run"
                await asyncio.sleep(0.01)
            else:
                begun.append(True)
                return held

    begun: list[bool] = []
    asyncio.run(run())


def test_probe_that_raises_fails_whoever_waits(tmp_path: Path) -> None:
    class Broken:
        async def __call__(self, base_url: str, *, token: str) -> bool:
            raise LookupError("a fault of the probe")

    async def run() -> None:
        command = ServiceCommand(argv=COUNTING.argv, ready=Broken())
        with pytest.raises(ServiceStartError, match="a fault of the probe"):
            async with ServicePool(command, 1, tmp_path):
                pass

    asyncio.run(run())


def test_answers_of_another_program_on_the_port_keep_no_lease_alive(tmp_path: Path) -> None:
    class Welcoming:
        async def __call__(self, base_url: str, *, token: str) -> bool:
            return True

    async def run() -> None:
        argv = [sys.executable, "-c", "pass"]
        command = ServiceCommand(argv=argv, ready=Welcoming())
        pool = ServicePool(command, 1, tmp_path)
        try:
            with pytest.raises(ServiceError):
                async with pool.lease() as lease:
                    while True:
                        lease.check()
                        await asyncio.sleep(0.01)
        finally:
            pool.close()

    asyncio.run(run())


# --- Ends


def test_close_ends_what_the_services_have_started(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> list[int]:
        async with pool.lease() as lease:
            service = httpx.get(lease.base_url, headers=lease.headers).json()
            return [service, await answer(lease, "/spawn")]

    assert not any(map(alive, with_pool(tmp_path, use)))


def test_service_ends_although_a_forked_process_holds_its_input(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        async with pool.lease() as lease:
            service = httpx.get(lease.base_url, headers=lease.headers).json()
            asks, answers = os.pipe()
            forked = os.fork()
            if not forked:
                os.close(answers)
                os.read(asks, 1)  # holds all that this process held until the test is over
                os._exit(0)
            lease.discard()
        await asyncio.to_thread(wait_until, lambda: not alive(service))
        os.close(answers)
        os.waitpid(forked, 0)

    with_pool(tmp_path, use)


def test_port_of_a_service_is_given_to_nobody_else(tmp_path: Path) -> None:
    late = "import time; time.sleep(600)"  # it has not bound its port yet
    refused = []

    class Greedy:
        async def __call__(self, base_url: str, *, token: str) -> bool:
            port = int(base_url.rpartition(":")[2])
            with socket.socket() as other:
                try:
                    other.bind(("127.0.0.1", port))
                except OSError:
                    refused.append(port)
            return True

    async def use(pool: ServicePool) -> None:
        async with pool.lease():
            pass

    command = ServiceCommand(argv=[sys.executable, "-c", late], ready=Greedy())
    with_pool(tmp_path, use, command=command)
    assert len(refused) >= 2


def test_services_leave_no_file_descriptor_behind(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        async with pool.lease():
            before = len([*Path("/proc/self/fd").iterdir()])
        for _ in range(3):
            async with pool.lease() as lease:
                lease.discard()
        async with pool.lease():
            assert len([*Path("/proc/self/fd").iterdir()]) == before

    with_pool(tmp_path, use)


def test_retired_service_leaves_nothing_behind(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        with pytest.raises(ServiceLostError):
            async with pool.lease() as lease:
                spawned = await answer(lease, "/spawn")
                assert alive(spawned)
                with pytest.raises(httpx.HTTPError):
                    await ask(lease, "/die")
        wait_until(lambda: not alive(spawned))

    with_pool(tmp_path, use)


OWNER = """
import asyncio, os, sys
from pathlib import Path
from astuner_gym.services.command import ServiceCommand
from astuner_gym.services.pool import ServicePool
import httpx

async def main():
    argv = ["env", "FOLDER={folder}", sys.executable, "-S", sys.argv[1], "{port}"]
    pool = ServicePool(ServiceCommand(argv=argv), 2, Path(sys.argv[2]))
    async with pool.lease() as lease:
        service = httpx.get(lease.base_url, headers=lease.headers).json()
        spawned = httpx.post(lease.base_url + "/spawn", headers=lease.headers).json()
        if sys.argv[3] == "forks" and not os.fork():
            sys.stdin.read()  # holds all that the owner held until the test is over
            os._exit(0)
        print(service, spawned, flush=True)
        if sys.argv[3] != "returns":
            await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["killed", "forks", "interrupted", "returns"])
def test_services_end_with_the_process_that_wanted_them(way: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(SERVICE), str(tmp_path), way]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        assert owner.stdout is not None and owner.stdin is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        keepers = keepers_of(owner.pid) if way != "returns" else []
        assert len(pids) == 2
        assert len(keepers) == (0 if way == "returns" else 2)
        folders = [folder_of(pids[0])] if way != "returns" else []
        assert all(map(Path.exists, folders))
        if way != "returns":
            owner.send_signal(signal.SIGINT if way == "interrupted" else signal.SIGKILL)
            if way == "interrupted":
                owner.stdin.close()
        owner.wait()
        for pid in [*pids, *keepers]:
            wait_until(lambda pid=pid: not alive(pid))  # type: ignore[misc]
        assert not any(map(Path.exists, folders))


def test_service_ends_with_its_keeper(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        with pytest.raises(ServiceLostError):
            async with pool.lease() as lease:
                service = httpx.get(lease.base_url, headers=lease.headers).json()
                keeper = int(
                    Path(f"/proc/{service}/stat").read_text().rpartition(")")[2].split()[1]
                )
                os.kill(keeper, signal.SIGKILL)
                wait_until(lambda: not alive(service))

    with_pool(tmp_path, use)


def test_closed_pool_leases_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        pool = ServicePool(COUNTING, 1, tmp_path)

        async def wait() -> None:
            async with pool.lease():
                pass

        async with pool.lease():
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            await asyncio.to_thread(pool.close)
            with pytest.raises(ServiceError, match="closed"):
                await waiting
            with pytest.raises(ServiceError, match="closed"):
                await wait()

    with pytest.raises(ServiceError, match="closed"):
        asyncio.run(run())


def test_pool_that_was_never_used_closes(tmp_path: Path) -> None:
    pool = ServicePool(COUNTING, 1, tmp_path / "logs")
    pool.close()
    pool.close()
    assert not (tmp_path / "logs").exists()


# --- What a service gets


def test_service_inherits_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", "secret")

    async def use(pool: ServicePool) -> Any:
        async with pool.lease() as lease:
            return await answer(lease, "/environment")

    command = ServiceCommand(argv=COUNTING.argv, env={"GIVEN": "1"})
    names = with_pool(tmp_path, use, command=command)
    assert set(names) - {"LC_CTYPE"} == {"GIVEN"}  # Python sets that one itself


def test_each_service_has_a_log(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        with pytest.raises(ServiceLostError):
            async with pool.lease() as lease, httpx.AsyncClient():
                with pytest.raises(httpx.HTTPError):
                    await ask(lease, "/die")
        async with pool.lease():
            pass

    with_pool(tmp_path, use)
    log = (tmp_path / "service-0.log").read_text()
    assert log.count("listening") == 2
    assert "ended with 137" in log


def test_logs_go_where_a_run_says_unless_the_pool_was_made_with_a_folder(tmp_path: Path) -> None:
    async def use(folder: Path | None) -> None:
        pool = ServicePool(COUNTING, 1, folder, patience=IMPATIENT)
        pool.log_to(tmp_path / "run")
        async with pool:
            pass

    asyncio.run(use(tmp_path / "own"))
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
    asyncio.run(use(None))
    assert (tmp_path / "run" / "service-0.log").exists()


def test_logs_cannot_be_moved_once_services_run(tmp_path: Path) -> None:
    async def use() -> None:
        async with ServicePool(COUNTING, 1, patience=IMPATIENT) as pool:
            with pytest.raises(ServiceError, match="before services start"):
                pool.log_to(tmp_path)

    asyncio.run(use())


def test_a_folder_of_its_own_is_new_to_each_service_and_ends_with_it(tmp_path: Path) -> None:
    script = (
        "import pathlib, runpy, sys; folder = pathlib.Path(sys.argv.pop(1));"
        " print(folder, len(list(folder.iterdir())), flush=True); (folder / 'left').touch();"
        f" sys.argv[0] = {str(SERVICE)!r}; runpy.run_path({str(SERVICE)!r})"
    )
    command = ServiceCommand(argv=[sys.executable, "-S", "-c", script, "{folder}", "{port}"])

    async def use(pool: ServicePool) -> list[Path]:
        for _ in range(2):
            async with pool.lease() as lease:
                lease.discard()
        async with pool.lease():
            *earlier, now = named()
            assert now.is_dir()
            assert not any(map(Path.exists, earlier))
        return [*earlier, now]

    def named() -> list[Path]:
        lines = (tmp_path / "service-0.log").read_text().splitlines()
        words = [line.split() for line in lines if line.startswith(tempfile.gettempdir())]
        assert {number for _, number in words} == {"0"}
        return [Path(folder) for folder, _ in words]

    folders = with_pool(tmp_path, use, command=command)
    assert len(set(folders)) == 3
    assert not any(map(Path.exists, folders))


@pytest.mark.parametrize("size", [0, -1])
def test_pool_needs_a_service(size: int, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=f"got {size}"):
        ServicePool(COUNTING, size, tmp_path)


def test_command_needs_a_program() -> None:
    with pytest.raises(SettingError, match="argv"):
        ServiceCommand(argv=[])


@pytest.mark.parametrize(
    ("reply", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 200\r\n\r\n", True),
        (b"HTTP/1.1 503 Later\r\n\r\n", False),
        (b"HTTP/1.1 401 No\r\n\r\n", False),
        (b"SSH-2.0\r\n", False),
        (b"x" * (1 << 17), False),
        (b"", False),
    ],
)
def test_http_probe_wants_status_200(reply: bytes, ready: bool) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply)
        writer.close()

    async def run() -> bool:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await HttpProbe("/health")(f"http://127.0.0.1:{port}", token="abc")

    assert asyncio.run(run()) is ready
    assert asked[0].startswith(b"GET /health HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer abc\r\n" in asked[0]


# --- In episodes


class Counting:
    """Asks the model for a path, and the service at it; goes on whatever comes back."""

    def __init__(self, pool: ServicePool) -> None:
        self._pool = pool

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        async with self._pool.lease() as lease:
            reply = await models["agent"]([UserMsg("user", "Which path?")])
            text = "".join(block.text for block in reply.content if block.type == "text")
            try:
                output = await answer(lease, text)
            except httpx.HTTPError:
                output = 0
        return WorkflowResult(output=output)


class Says:
    """Answers every call with the same text."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def respond(self, call: ChatCall) -> ChatReply:
        return ChatReply(text=self._text)


async def count_score(task: Task, result: WorkflowResult) -> Score:
    assert isinstance(result.output, int)
    return Score(rewards={"agent": float(result.output)}, success=True)


TASK = Task(id="t", record={})


def test_episode_that_swallows_the_death_of_its_service_is_not_scored(tmp_path: Path) -> None:
    async def use(pool: ServicePool) -> None:
        judge = FunctionJudge(count_score)
        with pytest.raises(ServiceLostError) as lost:
            await run_episode(Counting(pool), judge, TASK, Says("/die"))
        assert isinstance(lost.value, WorkflowError)  # so the runner tries the episode again
        outcome = await run_episode(Counting(pool), judge, TASK, Says("/count"))
        assert outcome.score.reward("agent") == 1.0

    with_pool(tmp_path, use)


def test_stepped_episodes_come_to_rest_beside_a_pool(tmp_path: Path) -> None:
    pool = ServicePool(COUNTING, 1, tmp_path)
    environment = Environment(
        name="counting",
        workflow=Counting(pool),
        judge=FunctionJudge(count_score),
        train_tasks=RecordTasks("t", [{}]),
    )
    try:
        with WorkflowEnv(environment) as env:
            for number in (1.0, 2.0):
                observations, _ = env.reset(seed=0)
                assert list(observations) == ["agent"]
                _, rewards, terminations, _, _ = env.step({"agent": "/count"})
                assert rewards == {"agent": number}
                assert terminations == {"agent": True}
    finally:
        pool.close()

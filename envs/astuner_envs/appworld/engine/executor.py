"""Executes an agent's code in AppWorld's engine: ``executor.py CALL-FILTER LISTENER-FD FOLDER``.

The front, one process, answers HTTP and never runs an agent's code. Each line that it reads from
standard input is the token of a new lease: the world of the lease before, a forked process, is
killed, its files are removed, and only then the new lease is answered, whose world is forked anew.
So an episode finds nothing that another has left behind, and what its code does to its own process
stays there. By CALL-FILTER, the path of ``astuner_gym/services/confinement/call_filter.py``, a
world starts no process, signals no other one and holds nothing of the front's; an empty path leaves
it unconfined.

A world is driven by the engine's REST application. ``POST /<method>`` passes the body on to it;
``GET /alarms`` returns what the interpreter's audit events tell of code that reached for what is
no part of a world. A world that its own code has ended, that answers as no world does or that
exceeds a limit is gone: each later request is answered with status 410.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import hmac
import importlib.util
import json
import os
import resource
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

METHODS = ("initialize", "execute", "task_completed", "state")
DEADLINE_S = 60.0
"""Of a whole request; the engine ends code earlier, unless that code prevents it."""
ENGINE_TIMEOUT_S = 20
MOST_ALARMS = 50
LARGEST_ANSWER = 32 << 20
LARGEST_OUTPUT = 1 << 20
"""Characters of one execution that are passed on."""
WORLD_CPU_S = 600
"""Of all executions of an episode: thirty that take as long as they may."""
LARGEST_FOLDER, MOST_ENTRIES = 256 << 20, 10_000
"""Bytes and entries of a world's folder, which holds what an episode has changed."""
FIRST_OF_A_WORLD = 128
"""Number of its first file descriptor besides the standard streams."""
LOOK_EVERY_S = 0.5
"""How often the folder is looked at; within that time a disk takes a gigabyte at most."""


def main() -> None:
    """Serve until standard input ends."""
    filter_path, fd, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    os.environ |= {
        "APPWORLD_ROOT": str(folder),
        "APPWORLD_CACHE": str(folder),
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    os.chdir(folder)
    import_engine()
    stay_alone = _load(filter_path).stay_alone if filter_path else lambda: None
    asyncio.run(Front(socket.socket(fileno=fd), folder, stay_alone).serve())


def _load(path: str) -> Any:
    specification = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def import_engine() -> None:
    """Import all that a world needs, once: a forked process shares it."""
    from appworld import requester
    from appworld.apps import get_all_apps
    from appworld.common.utils import import_models_module
    from appworld.serve.environment import app
    from freezegun import freeze_time

    assert app
    for name in get_all_apps():
        import_models_module(name)
    requester.build_main_app = cache(requester.build_main_app)
    requester.build_main_app(tuple(sorted(get_all_apps())))  # as a world names them
    with freeze_time("2023-05-18"):
        pass  # to look through all modules, which a world does not have to do again


def pieces_of_preparation() -> Iterator[None]:
    """Fill the engine's caches, which a world would fill for itself: half of an episode's work.

    Each piece takes at most some tenths of a second, all together some seconds.
    """
    from appworld.apps import get_all_apps
    from appworld.collections.api_docs import ApiDocCollection
    from appworld.common.utils import get_name_to_apis, get_name_to_model
    from appworld.requester import _get_api_name_to_doc

    # Arguments are given as the engine gives them: its caches tell a name from a position.
    ApiDocCollection.load(
        load_apps=tuple(get_all_apps(skip_admin=True)), include_response_schemas=True
    )
    for app in get_all_apps():
        get_name_to_apis(app, ignore_private_apis=True)
        _get_api_name_to_doc(app, include_private_apis=True)
        for model in get_name_to_model(app).values():
            yield
            model.validator()


async def _prepare() -> None:
    """Prepare while nothing is asked for, so that a service is ready as early as without."""
    for _ in pieces_of_preparation():
        await asyncio.sleep(0)


class Front:
    """Answers HTTP and holds the world of the lease."""

    def __init__(
        self, listener: socket.socket, folder: Path, stay_alone: Callable[[], None]
    ) -> None:
        """Serve on a socket that listens; worlds call ``stay_alone`` before they run code."""
        self._listener = listener
        self._folder = folder
        self._data = (folder / "data").readlink()
        self._stay_alone = stay_alone
        self._token = b""
        """Digest of the token, which a forked world would find in its memory."""
        self._world: World | None = None
        self._clearing: asyncio.Task[None] | None = None
        """Of what the lease before has left: its end does not wait for that, the next one does."""
        self._ended = asyncio.Event()
        self._input = b""

    async def serve(self) -> None:
        """Serve until standard input ends."""
        os.set_blocking(0, False)
        asyncio.get_running_loop().add_reader(0, self._read_tokens)
        server = await asyncio.start_server(self._answer, sock=self._listener)
        async with asyncio.TaskGroup() as tasks:
            preparation = tasks.create_task(_prepare())
            await self._ended.wait()
            preparation.cancel()
        server.close()
        self._end_lease()
        if self._clearing is not None:
            await self._clearing

    def _read_tokens(self) -> None:
        try:
            data = os.read(0, 1 << 12)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(0)
            self._ended.set()
            return
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._token = _digest(line) if line else b""
            self._end_lease()

    def _end_lease(self) -> None:
        if self._world is not None:  # and so nothing is being cleared: it has waited for that
            self._clearing = asyncio.create_task(self._clear(self._world))
            self._world = None

    async def _clear(self, world: World) -> None:
        try:
            await world.end()
            for entry in self._folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            (self._folder / "data").symlink_to(self._data)
        except (OSError, RecursionError):
            traceback.print_exc()
            self._ended.set()  # what cannot be removed is left behind: the next one starts afresh

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ValueError):
            status, content = await self._handle(reader)
            body = json.dumps(content).encode()
            writer.write(
                f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        writer.close()

    async def _handle(self, reader: asyncio.StreamReader) -> tuple[int, Any]:
        method, path, _ = (await reader.readline()).decode("latin-1").split(" ", 2)
        headers = {}
        while line := (await reader.readline()).decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        given = _digest(headers.get("authorization", "").removeprefix("Bearer ").encode())
        if not self._admits(given):
            return 401, {"message": "the token of the lease is needed"}
        if self._clearing is not None:
            await self._clearing
            if self._ended.is_set() or not self._admits(given):
                return 401, {"message": "the lease has ended"}
        if method == "GET" and path == "/":
            return 200, {"ready": True}
        if method == "GET" and path == "/alarms":
            return 200, {"alarms": [] if self._world is None else self._world.alarms}
        name = path.removeprefix("/")
        if method != "POST" or name not in METHODS:
            return 404, {"message": f"must be a POST to one of {METHODS}, got {method} {path}"}
        if self._world is None:
            self._world = World(self._folder, self._stay_alone)
        return await self._world.ask(name, json.loads(body))

    def _admits(self, digest: bytes) -> bool:
        return bool(self._token) and hmac.compare_digest(digest, self._token)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


class World:
    """A forked process with one world in it, and the pipes to it."""

    def __init__(self, folder: Path, stay_alone: Callable[[], None]) -> None:
        """Fork it."""
        self.alarms: list[str] = []
        self._folder = folder
        self._ours, theirs = socket.socketpair()
        alarms_read, alarms_write = os.pipe()
        self._lock = asyncio.Lock()
        self._initialized = False
        self._gone = False
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._process = os.fork()
        if not self._process:
            try:
                asyncio.events._set_running_loop(None)
                connection, alarms = _keep_only(theirs.detach(), alarms_write)
                inhabit(socket.socket(fileno=connection), alarms, folder, stay_alone)
            finally:
                os._exit(1)
        theirs.close()
        os.close(alarms_write)
        self._alarms = alarms_read
        os.set_blocking(alarms_read, False)
        self._rest = b""
        asyncio.get_running_loop().add_reader(alarms_read, self._read_alarms)
        self._watching = asyncio.create_task(self._watch_folder())

    def _read_alarms(self) -> None:
        try:
            data = os.read(self._alarms, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._alarms)
            return
        *lines, self._rest = (self._rest + data)[-(1 << 17) :].split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")[:200]
            if text not in self.alarms and len(self.alarms) < MOST_ALARMS:
                self.alarms.append(text)

    async def ask(self, method: str, body: Any) -> tuple[int, Any]:
        """Pass a request on and return status and content of the answer."""
        async with self._lock:
            if self._gone:
                return 410, {"message": "the world has ended"}
            if self._streams is None:
                self._streams = await asyncio.open_connection(sock=self._ours, limit=LARGEST_ANSWER)
            reader, writer = self._streams
            try:
                writer.write(json.dumps({"method": method, "body": body}).encode() + b"\n")
                answer = json.loads(await asyncio.wait_for(reader.readline(), DEADLINE_S))
                if answer["status"] != 200 and not self._initialized:
                    return 500, {"message": str(answer["content"])[:1000]}
                content = _answered(method, answer)
                self._initialized = True
                return 200, content
            except (TimeoutError, ValueError, LookupError, TypeError, OSError, RecursionError):
                # No answer, or one that no world gives: its code has seen to that, if any has run.
                self._kill()
                if not self._initialized:
                    return 500, {"message": "the engine gave no answer"}
                return 410, {"message": "the world has ended"}

    async def _watch_folder(self) -> None:
        while not self._gone:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._gone and _is_too_large(self._folder):
                self._kill()

    def _kill(self) -> None:
        if self._gone:
            return
        self._gone = True
        self._read_alarms()
        os.kill(self._process, signal.SIGKILL)  # not waited for yet, so the number is its own

    async def end(self) -> None:
        """Kill it, and wait while the kernel takes it apart, some tens of milliseconds."""
        self._kill()
        gone = asyncio.Event()
        pidfd = os.pidfd_open(self._process)
        asyncio.get_running_loop().add_reader(pidfd, gone.set)
        await gone.wait()
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        os.waitpid(self._process, 0)
        self._watching.cancel()
        asyncio.get_running_loop().remove_reader(self._alarms)
        os.close(self._alarms)
        if self._streams is not None:
            self._streams[1].close()
        else:
            self._ours.close()


def _answered(method: str, answer: Any) -> Any:
    """Return of a world's answer what is asked for, in its type.

    Raises:
        ValueError: No world answers so.
        LookupError: Nor so.
        TypeError: Nor so.
    """
    if answer["status"] != 200:
        raise ValueError(answer["status"])
    content = answer["content"]
    if method == "initialize":
        return {}
    if method == "task_completed":
        return {"output": content["output"] is True}
    if method == "execute":
        return {"output": str(content["output"])[:LARGEST_OUTPUT]}
    changes = content["changes"]
    if not isinstance(changes, dict) or not all(isinstance(t, str) for t in changes.values()):
        raise TypeError(method)
    return {"changes": changes}


def _is_too_large(folder: Path) -> bool:
    """Return whether a folder holds too much, or what cannot be looked at."""
    size, entries, left = 0, 0, [str(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as found:
                for entry in found:
                    entries += 1
                    if entries > MOST_ENTRIES or size > LARGEST_FOLDER:
                        return True
                    size += entry.stat(follow_symlinks=False).st_size
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError:
            return True
    return size > LARGEST_FOLDER


def _keep_only(*descriptors: int) -> list[int]:
    """Close all file descriptors but these; the standard streams lead nowhere.

    Those kept get numbers that the front has not used: its objects may still close theirs.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    kept = [fcntl.fcntl(number, fcntl.F_DUPFD, FIRST_OF_A_WORLD) for number in descriptors]
    low = 3
    for number in [*sorted(kept), 1 << 20]:
        os.closerange(low, number)
        low = number + 1
    return kept


def inhabit(
    connection: socket.socket, alarms: int, folder: Path, stay_alone: Callable[[], None]
) -> NoReturn:
    """Be the world: answer requests until killed."""
    resource.setrlimit(resource.RLIMIT_CPU, (WORLD_CPU_S, WORLD_CPU_S))
    stay_alone()
    _watch_audit_events(alarms, folder)
    asyncio.run(_live(connection, folder))
    os._exit(0)


async def _live(connection: socket.socket, folder: Path) -> None:
    # In the main thread, without threads in between: the engine times code out by a signal.
    import httpx
    from appworld.serve.environment import app

    transport = httpx.ASGITransport(app=app)
    client = httpx.AsyncClient(transport=transport, base_url="http://world")
    requests = connection.makefile("rb")
    task_id = ""
    while line := requests.readline():
        request = json.loads(line)
        method, body = request["method"], request["body"]
        if method == "state":
            status, content = 200, _state(folder, task_id)
        else:
            if method == "initialize":
                task_id = body["task_id"]
                body |= {"load_ground_truth": False, "timeout_seconds": ENGINE_TIMEOUT_S}
            try:
                response = await client.post(f"/{method}", json=body)
                status, content = response.status_code, response.json()
            except Exception as error:  # the engine's endpoints raise whatever they meet
                if method == "execute" and _cannot_be_read(body["code"]):
                    status, content = 200, {"output": f"Execution failed. Traceback:\n{error!r}"}
                else:
                    status, content = 500, "".join(traceback.format_exception(error))[-1000:]
        connection.sendall(json.dumps({"status": status, "content": content}).encode() + b"\n")


def _cannot_be_read(code: str) -> bool:
    """Return whether the engine's guard fails to read code, and so has run none of it.

    It does not know ``from math import *``, say.
    """
    from appworld.serve.environment import world

    try:
        world.safety_guard.is_syntax_safe(code)
    except Exception:  # whatever it was that kept the code from being run
        return True
    return False


def _state(folder: Path, task_id: str) -> dict[str, Any]:
    """Return the changes that the engine saved after the last execution, by app."""
    task = folder / "experiments" / "outputs" / "default" / "tasks" / task_id
    changes = {path.stem: path.read_text() for path in sorted((task / "dbs").glob("*.jsonl"))}
    hashes = task / "dbs" / "model_hashes.json"
    if hashes.exists():
        changes["model_hashes"] = hashes.read_text()
    return {"changes": changes}


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ALARMING = (
    "ctypes.", "gc.", "os.chmod", "os.chown", "os.exec", "os.fork", "os.kill", "os.link",
    "os.listdir", "os.mkdir", "os.posix_spawn", "os.ptrace", "os.putenv", "os.remove", "os.rename",
    "os.rmdir", "os.scandir", "os.setxattr", "os.spawn", "os.startfile", "os.symlink", "os.system",
    "os.truncate", "os.walk", "pty.spawn", "shutil.", "signal.pthread_kill", "socket.",
    "subprocess.",
    "sys.addaudithook", "sys.setprofile", "sys.settrace", "glob.", "pathlib.", "tempfile.",
)  # fmt: skip
"""Beginnings of the audit events that code which uses a world's APIs does not cause."""
_NOT_ALARMING = ("socket.__new__",)


def _watch_audit_events(alarms: int, folder: Path) -> None:
    """Have events written to the pipe while the agent's code runs, and at no other time."""
    from appworld.environment import AppWorld

    watching = False
    write, fspath = os.write, os.fspath  # the engine takes them from ``os`` while code runs
    run_cell = AppWorld._shell_run_cell
    free = (sys.prefix, sys.base_prefix, str(folder / "experiments"))

    def say(text: str) -> None:
        write(alarms, text.replace("\n", " ").encode("utf-8", "replace")[:200] + b"\n")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        if event == "open":
            path, _, flags = arguments
            named = fspath(path) if isinstance(path, str | os.PathLike) else repr(path)
            if not str(named).startswith(free):
                say(f"open {named} {'to write' if flags & _WRITES else ''}")
        elif event.startswith(_ALARMING) and event not in _NOT_ALARMING:
            if event.startswith(("shutil.", "os.", "glob.")) and _is_free(arguments, free):
                return
            say(f"{event} {arguments[:1]!r}")

    def watched(world: AppWorld, code: str) -> Any:
        nonlocal watching
        watching = True
        try:
            return run_cell(world, code)
        finally:
            watching = False

    sys.addaudithook(hook)
    AppWorld._shell_run_cell = watched


def _is_free(arguments: tuple[Any, ...], free: tuple[str, ...]) -> bool:
    return bool(arguments) and str(arguments[0]).startswith(free)


if __name__ == "__main__":
    main()

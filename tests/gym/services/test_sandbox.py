"""What a confined program can do, and what it cannot: each exploit works where nothing confines it.

Each is tried with every set of layers that confines by itself, on a kernel that has it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from astuner_gym.errors import SettingError
from astuner_gym.services.confinement.grants import Limits
from astuner_gym.services.sandbox import Confinement, Kernel, offered

EXPLOITS = Path(__file__).with_name("exploits.py")
PYTHON = Path(sys.executable).resolve()
PREFIX = Path(sys.base_prefix)
SECRET = "planted-secret-4711"
NEIGHBOUR = f"""
import ctypes, sys
held = ctypes.create_string_buffer({SECRET!r}.encode())
print(ctypes.addressof(held), flush=True)
sys.stdin.read()
"""
LAYERS = ("all", "namespaces", "landlock")


def kernel_with(layers: str) -> Kernel:
    """What the kernel offers of these layers; skips where it offers too little."""
    found = offered()
    kernel = Kernel(
        namespaces=found.namespaces and layers != "landlock",
        landlock=found.landlock if layers != "namespaces" else 0,
        calls=found.calls,
    )
    if kernel.refusal or (layers == "all" and not (kernel.namespaces and kernel.landlock)):
        pytest.skip(f"this kernel offers {found}")
    return kernel


@pytest.fixture(scope="module", params=LAYERS)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return kernel_with(request.param)


@dataclass(frozen=True)
class Planted:
    """What the exploits are after, as they are told of it."""

    folder: Path
    targets: dict[str, object]
    fds: tuple[int, ...]
    """Passed on to the launcher; the program is given the listening ones."""
    given: tuple[int, ...]


@contextmanager
def planted() -> Iterator[Planted]:
    """Make everything that an exploit may aim at, and take it away again."""
    with ExitStack() as stack:
        # Not pytest's folder, whose path may be too long for a socket.
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder, scratch = root / "hidden", root / "scratch"
        folder.mkdir()
        scratch.mkdir()
        for name in ("appended", "truncated", "deleted", "moved"):
            (folder / name).write_text("as it was")
        secret = folder / "secret.txt"
        secret.write_text(SECRET)
        (root / "readable").write_text("may be read")
        inherited = stack.enter_context(secret.open())
        neighbour = stack.enter_context(
            subprocess.Popen(
                [PYTHON, "-c", NEIGHBOUR],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={"SECRET": SECRET},
            )
        )
        assert neighbour.stdin is not None and neighbour.stdout is not None
        stack.callback(neighbour.stdin.close)
        tcp, one, two = (
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)
        )
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(folder / "unix"))
        unix.listen()
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{root.name}")
        abstract.listen()
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(str(folder / "datagrams"))
        yield Planted(
            folder=root,
            targets={
                "folder": str(folder),
                "scratch": str(scratch),
                "readable": str(root / "readable"),
                "secret": SECRET,
                "inherited": inherited.fileno(),
                "neighbour": neighbour.pid,
                "address": int(neighbour.stdout.readline()),
                "shared_memory": shared_memory(stack),
                "queue": message_queue(stack, root.name),
                "tcp": tcp.getsockname()[1],
                "udp": udp.getsockname()[1],
                "unix": str(folder / "unix"),
                "unix_datagrams": str(folder / "datagrams"),
                "abstract": root.name,
                "listening": one.fileno(),
                "listening_too": two.fileno(),
            },
            fds=(one.fileno(), two.fileno(), inherited.fileno()),
            given=(one.fileno(), two.fileno()),
        )


def shared_memory(stack: ExitStack) -> int:
    """The number of a System V segment that holds the secret."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    private, create = 0, 0o1600
    number: int = libc.shmget(private, 4096, create)
    address = ctypes.c_void_p(libc.shmat(number, None, 0))
    ctypes.memmove(address, SECRET.encode(), len(SECRET))
    remove = 0
    stack.callback(libc.shmctl, number, remove, None)
    stack.callback(libc.shmdt, address)
    return number


def message_queue(stack: ExitStack, name: str) -> str:
    """The name of a POSIX message queue."""
    librt = ctypes.CDLL("librt.so.1", use_errno=True)
    created = librt.mq_open(f"/{name}".encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
    assert created >= 0, os.strerror(ctypes.get_errno())
    stack.callback(librt.mq_unlink, f"/{name}".encode())
    stack.callback(os.close, created)
    return f"/{name}"


def run_exploits(found: Planted, kernel: Kernel | None) -> dict[str, str]:
    """What each attempt came to; confined by what the kernel offers, or not at all if None."""
    command = [str(PYTHON), str(EXPLOITS), json.dumps(found.targets)]
    if kernel is not None:
        command = Confinement(
            read=[PREFIX, EXPLOITS, found.folder / "readable"],
            write=[found.folder / "scratch"],
            env=["LANG"],
            fds=found.given,
            limits=Limits(alone=False),
        ).argv(command, kernel)
    run = subprocess.run(
        command,
        env={"SECRET": SECRET},
        pass_fds=found.fds,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    outcomes: dict[str, str] = json.loads(run.stdout)
    return outcomes


@pytest.fixture(scope="module")
def confined_outcomes(kernel: Kernel) -> dict[str, str]:
    with planted() as found:
        return run_exploits(found, kernel)


@pytest.fixture(scope="module")
def free_outcomes() -> dict[str, str]:
    with planted() as found:
        return run_exploits(found, None)


def exploit_names() -> list[str]:
    return [
        line.removeprefix("def ").partition("(")[0]
        for decorator, line in pairwise(EXPLOITS.read_text().splitlines())
        if decorator == "@attempt"
    ]


@pytest.mark.parametrize("name", exploit_names())
def test_exploit_works_on_a_free_program(name: str, free_outcomes: dict[str, str]) -> None:
    if name == "read_the_log_of_the_kernel" and os.geteuid():
        pytest.skip("the kernel may keep it from all users but root")
    assert free_outcomes[name] == "succeeded"


@pytest.mark.parametrize("name", exploit_names())
def test_exploit_fails_on_a_confined_program(name: str, confined_outcomes: dict[str, str]) -> None:
    assert confined_outcomes[name] != "succeeded"


def python(code: str, *, kernel: Kernel, **given: object) -> list[str]:
    """The command that runs Python code in a confinement."""
    confinement = Confinement(**{"read": [PREFIX], **given})  # type: ignore[arg-type]
    return confinement.argv([str(PYTHON), "-c", code], kernel)


def output(command: list[str], *, stdin: str = "", env: dict[str, str] | None = None) -> str:
    run = subprocess.run(
        command, input=stdin, env=env or {}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_confined_program_gets_what_it_is_given(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("read")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = f"""
import os, pathlib, shutil, subprocess, sys
print(sys.stdin.read(), pathlib.Path({str(tmp_path / "text")!r}).read_text(), os.environ["GIVEN"])
pathlib.Path("written").write_text("written")
shutil.copy2("written", "copied")
pathlib.Path("/dev/null").write_text("gone")
print(subprocess.run(["/bin/echo", "spawned"], capture_output=True, text=True).stdout)
"""
    command = python(
        code,
        kernel=kernel,
        read=[PREFIX, tmp_path / "text"],
        write=[scratch],
        env=["GIVEN"],
        folder=scratch,
        limits=Limits(alone=False),
    )
    printed = output(command, stdin="asked", env={"GIVEN": "given", "KEPT": "kept"})
    assert printed.split() == ["asked", "read", "given", "spawned"]
    assert (scratch / "copied").read_text() == "written"


def test_confined_program_serves_a_listening_socket_that_it_is_given(kernel: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        code = f"""
import socket
connection, _ = socket.socket(fileno={listening.fileno()}).accept()
connection.sendall(connection.recv(100).upper())
"""
        command = python(code, kernel=kernel, fds=[listening.fileno()])
        with (
            subprocess.Popen(command, env={}, pass_fds=[listening.fileno()]) as program,
            socket.create_connection(listening.getsockname()) as connection,
        ):
            connection.sendall(b"hello")
            assert connection.recv(100) == b"HELLO"
            assert program.wait() == 0


@pytest.mark.parametrize(("ending", "status"), [("sys.exit(3)", 3), ("os.abort()", 134)])
def test_exit_status_is_that_of_the_program(ending: str, status: int, kernel: Kernel) -> None:
    command = python(f"import os, sys; {ending}", kernel=kernel)
    ended = subprocess.run(command, env={}, check=False).returncode
    assert ended in (status, 128 - status)  # as a status, or as the signal that it stands for


def test_output_ends_with_the_program_and_what_it_started(kernel: Kernel) -> None:
    command = python("print('said')", kernel=kernel)
    assert output(command) == "said\n"


def test_all_processes_end_with_the_launcher() -> None:
    kernel = kernel_with("namespaces")
    code = """
import os, subprocess, sys, time
if not os.fork():
    os.setsid()
    time.sleep(600)
print("started", flush=True)
time.sleep(600)
"""
    command = python(code, kernel=kernel, limits=Limits(alone=False))
    with subprocess.Popen(command, env={}, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"started\n"
        program.kill()
        # All of them hold the other end of the pipe.
        assert program.stdout.read() == b""


# --- Limits


def refused(attack: str) -> str:
    """Code that prints the error that the attack comes to."""
    return f"""
import os, resource, sys, threading
try:
    {attack}
    print("came through")
except (OSError, MemoryError, RuntimeError) as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        ("os.fork()", "PermissionError"),
        ("os.posix_spawn('/bin/true', ['true'], {})", "PermissionError"),
        ("bytearray(2 << 30)", "MemoryError"),
        ("open('file', 'wb', buffering=0).truncate(2 << 20)", "OSError"),
        ("os.writev(os.open('file', os.O_CREAT | os.O_WRONLY), [bytes(1 << 20)] * 2)", "came"),
        ("[os.dup(0) for _ in range(64)]", "OSError"),
        ("resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))", "ValueError"),
    ],
)
def test_what_exceeds_a_limit_fails(
    attack: str, error: str, kernel: Kernel, tmp_path: Path
) -> None:
    limits = Limits(memory=1 << 30, file_size=1 << 20, open_files=64)
    code = refused(attack).replace("RuntimeError", "RuntimeError, ValueError")
    command = python(code, kernel=kernel, write=[tmp_path], folder=tmp_path, limits=limits)
    assert output(command).startswith(error)
    assert all(path.stat().st_size <= 1 << 20 for path in tmp_path.iterdir())


def test_output_to_a_file_is_limited(kernel: Kernel, tmp_path: Path) -> None:
    command = python("while True: print('x' * 10_000)", kernel=kernel, limits=Limits(file_size=99))
    with (tmp_path / "log").open("ab") as log:
        ended = subprocess.run(command, env={}, stdout=log, stderr=log, check=False).returncode
    assert ended != 0
    assert (tmp_path / "log").stat().st_size == 99


def test_time_on_the_processor_is_limited(kernel: Kernel) -> None:
    command = python("while True: pass", kernel=kernel, limits=Limits(cpu_s=1))
    ended = subprocess.run(command, env={}, check=False).returncode
    assert ended in (-signal.SIGKILL, 128 + signal.SIGKILL)


def test_threads_are_limited_in_a_namespace() -> None:
    kernel = kernel_with("namespaces")
    version = [int(part) for part in os.uname().release.split(".")[:2]]
    if not os.geteuid() and version < [6, 14]:
        pytest.skip("this kernel lets root have as many as it wants")
    code = refused("[threading.Thread(target=sys.stdin.read).start() for _ in range(500)]")
    command = python(f"{code}\nos._exit(0 if sys.stdout.flush() is None else 1)", kernel=kernel)
    with subprocess.Popen(
        command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.read() == "RuntimeError\n"


def test_program_without_the_file_is_named(kernel: Kernel) -> None:
    command = Confinement().argv(["/usr/bin/no-such-program"], kernel)
    run = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "/usr/bin/no-such-program" in run.stderr


@pytest.mark.parametrize("path", [Path("relative"), Path("/no/such/folder")])
def test_confinement_refuses_paths_that_it_cannot_give(path: Path) -> None:
    with pytest.raises(SettingError, match=str(path)):
        Confinement(read=[path])


@pytest.mark.parametrize(
    ("kernel_found", "what"),
    [
        (Kernel(namespaces=False, landlock=0, calls=True), "user namespaces"),
        (Kernel(namespaces=False, landlock=5, calls=True), "but 5"),
        (Kernel(namespaces=True, landlock=7, calls=False), "seccomp"),
    ],
)
def test_kernel_that_offers_too_little_is_refused(kernel_found: Kernel, what: str) -> None:
    with pytest.raises(SettingError, match=what):
        Confinement().argv(["/bin/true"], kernel_found)


@pytest.mark.parametrize(
    "kernel_found",
    [
        Kernel(namespaces=True, landlock=0, calls=True),
        Kernel(namespaces=False, landlock=6, calls=True),
    ],
)
def test_one_layer_is_enough(kernel_found: Kernel) -> None:
    assert kernel_found.refusal is None

"""A process that stays alone: beside others in one confinement, it reaches none of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from astuner_gym.services.confinement import call_filter

BEFORE = f"""
import ctypes, fcntl, importlib.util, os, signal, socket, struct, threading
specification = importlib.util.spec_from_file_location("f", {call_filter.__file__!r})
module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)  # as another Python would, without the package
no_new_privileges = 38
assert ctypes.CDLL(None).prctl(no_new_privileges, 1, 0, 0, 0) == 0
one, other = socket.socketpair()
"""


def ends_well(code: str, *, alone: bool) -> bool:
    program = BEFORE + ("module.stay_alone()\n" if alone else "") + code
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == 0 or "PermissionError" in ended.stderr, ended.stderr
    return ended.returncode == 0


@pytest.mark.parametrize(
    "code",
    [
        "os.fork() or os._exit(0)",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 0)",
        "os.kill(0, 0)",
        "signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)",
        "fcntl.fcntl(one, fcntl.F_SETOWN, os.getppid())",
        "fcntl.fcntl(one, fcntl.F_SETSIG, signal.SIGURG)",
        "fcntl.ioctl(one, 0x8901, struct.pack('i', os.getppid()))",
    ],
)
def test_process_that_stays_alone_reaches_no_other(code: str) -> None:
    assert ends_well(code, alone=False)
    assert not ends_well(code, alone=True)


@pytest.mark.parametrize(
    "code",
    [
        "threading.Thread(target=print).start()",
        "os.kill(os.getpid(), 0)",
        "signal.raise_signal(signal.SIGURG)",
        "signal.setitimer(signal.ITIMER_REAL, 60)",
        "one.send(b'x'); assert other.recv(1) == b'x'",
        "open('/dev/null', 'w').write('x')",
    ],
)
def test_process_that_stays_alone_can_do_the_rest(code: str) -> None:
    assert ends_well(code, alone=True)


def test_filter_is_loaded_by_path() -> None:
    imported = Path(call_filter.__file__).read_text("utf-8")
    assert "from astuner_gym" not in imported

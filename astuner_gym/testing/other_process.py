"""A call in a new Python process whose strings hash otherwise than here."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

T = TypeVar("T")

_START = "from astuner_gym.testing.other_process import serve; serve()"


def call_in_other_process(call: Callable[[], T], *, module: str) -> T:
    """Return ``call()`` as another process computes it.

    Args:
        call: A call that pickles, as do its arguments and its result.
        module: Name of the module that it needs, which is found there by its file if need be.

    Raises:
        RuntimeError: The other process failed; the message holds what it wrote.
    """
    here = os.environ.get("PYTHONHASHSEED")
    finished = subprocess.run(
        [sys.executable, "-c", _START],
        input=pickle.dumps((module, sys.modules[module].__file__, pickle.dumps(call))),
        capture_output=True,
        check=False,
        env={
            **os.environ,
            "PYTHONHASHSEED": "2" if here == "1" else "1",
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        },
    )
    if finished.returncode:
        error = finished.stderr.decode(errors="replace")
        raise RuntimeError(f"another process could not do what this one can:\n{error}")
    return cast(T, pickle.loads(finished.stdout))


def serve() -> None:
    """Do one call: it comes on standard input, and its result goes to standard output."""
    module, file, call = pickle.loads(sys.stdin.buffer.read())
    with contextlib.redirect_stdout(sys.stderr):
        _import(module, file)
        result = pickle.loads(call)()
    sys.stdout.buffer.write(pickle.dumps(result))


def _import(name: str, file: str | None) -> None:
    """Import a module by its name or, as pytest does in its import mode importlib, by its file."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        spec = None if file is None else importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)

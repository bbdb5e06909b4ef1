"""Evaluates states of worlds with AppWorld's engine: ``evaluator.py PORT FOLDER TOKEN-READER``.

This process holds the ground truth and executes no agent's code. FOLDER has ``data`` with it.
``POST /evaluate`` takes ``{"task_id": …, "changes": {app: text}}``, the changes that an executor
saved, and answers as the engine's evaluation does. What is no change of rows is refused with status
422, since the statements are run.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import resource
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

EXPERIMENT = f"evaluated-{os.getpid()}"
"""Not shared with the evaluator of another run."""
LARGEST_MEMORY = 4 << 30
_IN = re.compile(r"\bIN \([?, ]*\)", re.IGNORECASE)
_CHANGE = re.compile(
    r"""INSERT\ (OR\ \w+\ )?INTO\ "?\w+"?(\ ?\([\w", ]+\))?\ (VALUES\ \([?, ]+\)|DEFAULT\ VALUES)
    |UPDATE\ "?\w+"?\ SET\ [\w".=?,' ]+
    |DELETE\ FROM\ "?\w+"?(\ WHERE\ [\w".=?' ]+)?""",
    re.IGNORECASE | re.VERBOSE,
)
"""Rows by their values: without parentheses there is no function and no query within a change."""


class State(BaseModel):
    """What an episode left."""

    task_id: str
    changes: dict[str, str]


def main() -> None:
    """Serve until standard input ends."""
    port, folder, reader_path = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    os.environ |= {"APPWORLD_ROOT": str(folder), "APPWORLD_CACHE": str(folder)}
    os.chdir(folder)
    specification = importlib.util.spec_from_file_location("token_reader", reader_path)
    assert specification and specification.loader
    token_reader = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(token_reader)
    tokens = token_reader.TokenReader.listening()
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))
    uvicorn.run(build(folder, tokens), host="127.0.0.1", port=port, log_level="warning")


def build(folder: Path, tokens: Any) -> FastAPI:
    """Return the application."""
    import appworld.evaluator  # noqa: F401 - imports take seconds: before it is ready
    import pytest  # noqa: F401 - each check imports it, and without it would count as failed

    app = FastAPI()
    lock = asyncio.Lock()

    @app.middleware("http")
    async def authorize(request: Request, call_next: Any) -> Response:
        if not tokens.accepts(request.headers.get("authorization")):
            return Response(status_code=401)
        response: Response = await call_next(request)
        return response

    @app.get("/")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/evaluate")
    async def evaluate(response: Response, state: State) -> dict[str, Any]:
        async with lock:
            try:
                return {"output": evaluated(folder, state.task_id, state.changes)}
            except ValueError as error:
                response.status_code = 422
                return {"message": str(error)}

    return app


def evaluated(folder: Path, task_id: str, changes: dict[str, str]) -> dict[str, Any]:
    """Return how the changes are judged.

    Raises:
        ValueError: There is no such task, or something is no change of rows.
    """
    from appworld.apps import get_all_apps
    from appworld.apps.model_lib import CachedDBHandler
    from appworld.evaluator import evaluate_task

    if not re.fullmatch(r"\w+", task_id) or not (folder / "data" / "tasks" / task_id).is_dir():
        raise ValueError(f"{task_id!r} is no task")
    output = folder / "experiments" / "outputs" / EXPERIMENT
    target = output / "tasks" / task_id / "dbs"
    target.mkdir(parents=True)
    try:
        for app in get_all_apps():
            text = changes.get(app, "")
            given = folder / "data" / "tasks" / task_id / "dbs" / f"{app}.jsonl"
            before = given.read_text() if given.exists() else ""
            _check(text, before=before, app=app)
            (target / f"{app}.jsonl").write_text(text)
        if "model_hashes" in changes:
            if not isinstance(_parsed(changes["model_hashes"]), dict):
                raise ValueError("hashes of models must be named")
            (target / "model_hashes.json").write_text(changes["model_hashes"])
        CachedDBHandler.reset()
        tracker = evaluate_task(task_id, EXPERIMENT, suppress_errors=True, save_report=False)
        report: dict[str, Any] = tracker.to_dict(stats_only=False)
        return report
    except (sqlite3.Error, LookupError, TypeError, AttributeError) as error:
        # The rows fit no table or no type: the state was not made by the engine.
        raise ValueError(f"the changes lead to no state: {error!r:.200}") from error
    finally:
        CachedDBHandler.reset()
        shutil.rmtree(output, ignore_errors=True)


def _check(text: str, *, before: str, app: str) -> None:
    """Let through what the task itself begins with, and beyond it changes of rows alone."""
    known = set(before.splitlines())
    for line in text.splitlines():
        if line in known or not line.strip():
            continue
        change = _parsed(line)
        if not isinstance(change, list) or len(change) != 3 or not isinstance(change[0], str):
            raise ValueError(f"{app}: a change has a statement, values and a mark, got {line:.100}")
        statement = _IN.sub("", " ".join(change[0].split()))
        if not _CHANGE.fullmatch(statement):
            raise ValueError(f"{app}: only changes of rows are evaluated, got {statement!r:.100}")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("a change nests too deep") from error


if __name__ == "__main__":
    main()

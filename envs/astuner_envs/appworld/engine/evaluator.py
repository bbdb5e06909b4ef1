"""Evaluates states of worlds in AppWorld's engine: ``evaluator.py PORT FOLDER DATA TOKEN-READER``.

This process holds the ground truth, which is in DATA, and executes no agent's code. FOLDER is the
one folder that it writes; it is empty and gets a link to DATA.
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

EXPERIMENT = "evaluated"
LARGEST_MEMORY = 4 << 30
_IN = re.compile(r"\bIN \([?, ]*\)", re.IGNORECASE)
_CHANGE = re.compile(
    r"""INSERT\ (OR\ \w+\ )?INTO\ "?\w+"?(\ ?\([\w", ]+\))?\ (VALUES\ \([?, ]+\)|DEFAULT\ VALUES)
    |UPDATE\ "?\w+"?\ SET\ [\w".=?,' ]+
    |DELETE\ FROM\ "?\w+"?(\ WHERE\ [\w".=?' ]+)?""",
    re.IGNORECASE | re.VERBOSE,
)
"""Rows by their values: without parentheses there is no function and no query within a change."""


class NoStateError(ValueError):
    """What an episode left is no state that the engine leads to."""


class State(BaseModel):
    """What an episode left."""

    task_id: str
    changes: dict[str, str]


def main() -> None:
    """Serve until standard input ends."""
    port, folder, data, reader_path = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    (folder / "data").symlink_to(data)
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
            except NoStateError as error:
                response.status_code = 422
                return {"message": str(error)}

    return app


def evaluated(folder: Path, task_id: str, changes: dict[str, str]) -> dict[str, Any]:
    """Return how the changes are judged.

    Raises:
        NoStateError: Something is no change of rows, or the rows fit no table or no type.
        Exception: There is no such task, or the engine cannot evaluate it, whatever is changed.
    """
    tasks = folder / "data" / "tasks"
    if not any(each.name == task_id for each in tasks.iterdir()):
        raise LookupError(f"{task_id!r} is no task")
    given = {path.stem: path.read_text() for path in (tasks / task_id / "dbs").glob("*.jsonl")}
    try:
        _check(changes, given=given)
        return _report(folder, task_id, changes)
    except (ValueError, sqlite3.Error, LookupError, TypeError, AttributeError) as error:
        _report(folder, task_id, given)  # raises if it is the task that is at fault
        raise NoStateError(f"the changes lead to no state: {error!r:.200}") from error


def _report(folder: Path, task_id: str, changes: dict[str, str]) -> dict[str, Any]:
    from appworld.apps import get_all_apps
    from appworld.apps.model_lib import CachedDBHandler
    from appworld.evaluator import evaluate_task

    output = folder / "experiments" / "outputs" / EXPERIMENT
    target = output / "tasks" / task_id / "dbs"
    target.mkdir(parents=True)
    try:
        for app in get_all_apps():
            (target / f"{app}.jsonl").write_text(changes.get(app, ""))
        if "model_hashes" in changes:
            (target / "model_hashes.json").write_text(changes["model_hashes"])
        CachedDBHandler.reset()
        tracker = evaluate_task(task_id, EXPERIMENT, suppress_errors=True, save_report=False)
        report: dict[str, Any] = tracker.to_dict(stats_only=False)
        return report
    finally:
        CachedDBHandler.reset()
        shutil.rmtree(output, ignore_errors=True)


def _check(changes: dict[str, str], *, given: dict[str, str]) -> None:
    """Let through what the task itself begins with, and beyond it changes of rows alone."""
    for app, text in changes.items():
        if app == "model_hashes":
            if not isinstance(_parsed(text), dict):
                raise NoStateError("hashes of models must be named")
            continue
        known = set(given.get(app, "").split("\n"))
        # Not splitlines(): a text in a row may hold a line separator, unescaped.
        for line in text.split("\n"):
            if line.strip() and line not in known:
                _check_change(app, line)


def _check_change(app: str, line: str) -> None:
    change = _parsed(line)
    if not isinstance(change, list) or len(change) != 3 or not isinstance(change[0], str):
        raise NoStateError(f"{app}: a change has a statement, values and a mark, got {line:.100}")
    statement = _IN.sub("", " ".join(change[0].split()))
    if not _CHANGE.fullmatch(statement):
        raise NoStateError(f"{app}: only changes of rows are evaluated, got {statement!r:.100}")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise NoStateError("a change nests too deep") from error


if __name__ == "__main__":
    main()

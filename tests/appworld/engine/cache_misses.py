"""What a world still has to make that its front could have made: run by the engine's own Python.

``cache_misses.py EXECUTOR FOLDER EPISODES``, with EPISODES as JSON: task ids and pieces of code.
Prints, by name, how often a cache of the engine was asked for in vain while they were played.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
os.environ |= {"APPWORLD_ROOT": sys.argv[2], "APPWORLD_CACHE": sys.argv[2]}
os.chdir(sys.argv[2])

import executor  # noqa: E402

executor.import_engine()
for _ in executor.pieces_of_preparation():
    pass

import httpx  # noqa: E402
from appworld import requester  # noqa: E402
from appworld.apps.model_lib import SQLModel  # noqa: E402
from appworld.collections.api_docs import ApiDocCollection  # noqa: E402
from appworld.common.utils import get_name_to_apis  # noqa: E402
from appworld.serve.environment import app  # noqa: E402

CACHES = {
    "main app": requester.build_main_app,
    "documents of an app": requester._get_api_name_to_doc,
    "documents of all apps": ApiDocCollection.load.__func__,
    "names of APIs": get_name_to_apis,
    "validators of rows": SQLModel.validator.__func__,
}


async def play() -> None:
    """Play the episodes one after the other in this process."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://world") as client:
        for task_id, pieces in json.loads(Path(sys.argv[3]).read_text()):
            task = {"task_id": task_id}
            await client.post("/initialize", json={**task, "load_ground_truth": False})
            for code in pieces:
                answer = await client.post("/execute", json={**task, "code": code})
                assert answer.status_code == 200, answer.text


before = {name: cached.cache_info() for name, cached in CACHES.items()}
asyncio.run(play())
after = {name: cached.cache_info() for name, cached in CACHES.items()}
for name, info in after.items():
    assert info.hits > before[name].hits, f"{name}: never asked for, so this shows nothing"
print(json.dumps({name: info.misses - before[name].misses for name, info in after.items()}))

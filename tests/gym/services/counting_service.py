"""A small real service: counts its requests, and does on request what a service must not do.

Usage: counting_service.py <port>. Every request must bring the token that counts.

- GET /            the process id
- POST /count      the number of these requests since the process began
- POST /die        kills itself in the middle of the request
- POST /hang       never answers
- POST /spawn      starts a process in a session of its own that ignores SIGTERM; its id
- POST /environment   names of the environment variables
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

# As a service in another virtual environment would: by path, without the package.
_FILE = Path(__file__).parents[3] / "astuner_gym/services/token_reader.py"
_spec = importlib.util.spec_from_file_location("token_reader", _FILE)
assert _spec is not None and _spec.loader is not None
token_reader = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(token_reader)

tokens = token_reader.TokenReader.listening()
numbers = count(1)
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(os.getpid())

    def do_POST(self) -> None:
        if not tokens.accepts(self.headers["Authorization"]):
            self.answer("no such token", status=401)
        elif self.path == "/count":
            self.answer(next(numbers))
        elif self.path == "/die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.path == "/hang":
            time.sleep(600)
        elif self.path == "/spawn":
            child = subprocess.Popen([sys.executable, "-c", STUBBORN], start_new_session=True)
            self.answer(child.pid)
        elif self.path == "/environment":
            self.answer(sorted(os.environ))

    def answer(self, body: object, *, status: int = 200) -> None:
        if status == 200 and not tokens.accepts(self.headers["Authorization"]):
            body, status = "no such token", 401
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


print("listening", flush=True)
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()

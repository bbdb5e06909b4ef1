"""A server on this machine that speaks OpenAI's chat protocol and answers by a function.

It stands in for a language model where a judge or an agent asks an address::

    with ChatServer(lambda messages: "Score: 0.5") as server:
        endpoint = ChatEndpoint(EndpointConfig(base_url=server.url, model="scripted"))
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, TypeAlias


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of another kind than a completion."""

    status: int
    """Of HTTP."""
    body: str = "{}"
    retry_after: str | None = None


AnswerFunction: TypeAlias = Callable[[Sequence[Mapping[str, str]]], str | Refusal]


class ChatServer:
    """Serves while the block runs, on loopback and a free port; requests come concurrently.

    Args:
        answer: Given the messages of a request, returns the text to answer, or a refusal. It is
            called in one thread at a time unless ``concurrent``.
        concurrent: Whether ``answer`` may be called in several threads at once.
    """

    def __init__(self, answer: AnswerFunction, *, concurrent: bool = False) -> None:
        self.requests: list[dict[str, Any]] = []
        """Bodies of all requests for a completion, in the order of arrival."""
        self.keys: set[str | None] = set()
        """Authorization headers that came."""
        self._answer = answer
        self._concurrent = concurrent
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def completion(self, request: dict[str, Any], *, key: str | None) -> str | Refusal:
        """Note a request and return its answer."""
        with self._lock:
            self.requests.append(request)
            self.keys.add(key)
            if not self._concurrent:
                return self._answer(request["messages"])
        return self._answer(request["messages"])

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Header and body leave in two writes: with Nagle's algorithm the second one would wait for
        # the delayed acknowledgement of the first.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(200, json.dumps({"object": "list", "data": [{"id": "scripted"}]}))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = server.completion(request, key=self.headers["Authorization"])
            if isinstance(answer, Refusal):
                self._send(answer.status, answer.body, retry_after=answer.retry_after)
            else:
                message = {"role": "assistant", "content": answer}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                self._send(200, json.dumps({"object": "chat.completion", "choices": [choice]}))

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _send(self, status: int, body: str, *, retry_after: str | None = None) -> None:
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            self.wfile.write(content)

    return Handler

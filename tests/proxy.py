"""A proxy before a real server, which spoils some of its answers."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANGS = 30.0
Spoil = Callable[["Handler", bytes], None]
"""Gives another answer than the server's, which it is given."""


class Handler(BaseHTTPRequestHandler):
    """Passes a request on, and its answer back or a spoiled one."""

    server: "Proxy"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass_on(self, body: bytes) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        upstream.request(self.command, self.path, body, {"Content-Type": "application/json"})
        answer = upstream.getresponse()
        text = answer.read()
        upstream.close()
        if self.server.spoils(self.path, body):
            self.server.spoil(self, text)
        else:
            self.reply(text, answer.status)

    def reply(
        self,
        body: bytes,
        status: int = 200,
        kind: str = "application/json",
        length: int | None = None,
        **headers: str,
    ) -> None:
        """Answers; a ``length`` above the body's own promises more than comes."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        if length is not None:
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


class Proxy(ThreadingHTTPServer):
    """Listens on a port of its own.

    Args:
        upstream: The port of the server behind it.
        path: Requests to this path are spoiled.
        spoil: How.
        tries: So many tries of each request; None for all.
    """

    daemon_threads = True

    def __init__(self, upstream: int, path: str, spoil: Spoil, tries: int | None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.path, self.spoil, self.tries = upstream, path, spoil, tries
        self.asked: Counter[bytes] = Counter()
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def spoils(self, path: str, body: bytes) -> bool:
        if path != self.path:
            return False
        with self._lock:
            self.asked[body] += 1
            return self.tries is None or self.asked[body] <= self.tries

    def handle_error(self, *args: Any) -> None:
        pass  # who waits no longer has gone


def status(code: int, body: bytes = b'{"error": {"message": "no"}}', **headers: str) -> Spoil:
    return lambda handler, text: handler.reply(body, code, **headers)


def says(body: bytes, kind: str = "application/json") -> Spoil:
    return lambda handler, text: handler.reply(body, kind=kind)


def hang(handler: Handler, text: bytes) -> None:
    time.sleep(HANGS)


def cut(handler: Handler, text: bytes) -> None:
    handler.close_connection = True


def half(handler: Handler, text: bytes) -> None:
    handler.reply(text[: len(text) // 2], length=len(text))


def torn(handler: Handler, text: bytes) -> None:
    """Half an answer that says it is a whole one."""
    handler.reply(text[: len(text) // 2])


def gzipped(handler: Handler, text: bytes) -> None:
    """Says that it is packed, and is not."""
    handler.reply(text, Content_Encoding="gzip")


def changed(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """The server's own answer, with something changed in it."""

    def spoil(handler: Handler, text: bytes) -> None:
        answer = json.loads(text)
        change(answer)
        handler.reply(json.dumps(answer).encode())

    return spoil

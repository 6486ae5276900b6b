"""A proxy for an HTTP server that delays, throttles or breaks connections, as a test requires."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from threading import Lock
from urllib.parse import urlsplit

from tests import loopback

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Trouble:
    """What happens to a request."""

    wait: float = 0.0  # s, before it is answered
    status: int = 0  # answered in place of the server
    body: bytes = SLOW_DOWN
    keep: float = 1.0  # part of the answer's body to send before the connection is closed


@dataclass
class Proxy(loopback.Loopback):
    """The proxy, a context manager; `trouble` decides by method and path what happens to a request."""

    server: str
    trouble: Callable[[str, str, dict[str, str]], Trouble | None] = lambda *_: None
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    most: int = 0  # requests for bodies at a time
    url: str = ""
    _open: int = 0
    _lock: Lock = field(default_factory=Lock)

    def handler(self) -> type[loopback.Handler]:
        """See Loopback."""
        proxy = self

        class Handler(loopback.Handler):
            def handle_any(self) -> None:
                proxy.forward(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815  the library's names

        return Handler

    def forward(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        headers = dict(handler.headers.items())
        lower = {name.lower(): value for name, value in headers.items()}
        if lower.get("expect"):
            handler.send_response_only(100)
            handler.end_headers()
        if lower.get("transfer-encoding") == "chunked":
            raise AssertionError("not needed so far")
        body = handler.rfile.read(int(lower.get("content-length", 0)))
        with self._lock:
            self.requests.append((handler.command, handler.path, lower))
            self._open += 1
            self.most = max(self.most, self._open)
            trouble = self.trouble(handler.command, handler.path, lower) or Trouble()
        try:
            self._answer(handler, headers, body, trouble)
        finally:
            with self._lock:
                self._open -= 1

    def _answer(
        self, handler: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes, trouble: Trouble
    ) -> None:
        time.sleep(trouble.wait)
        if trouble.status:
            status, given, content = trouble.status, {"Content-Type": "application/xml"}, trouble.body
        else:
            status, given, content = self._pass_on(handler, headers, body)
        handler.send_response_only(status)
        length = given.get("Content-Length") if handler.command == "HEAD" else None
        for name, value in given.items():
            if name.lower() not in HOP:
                handler.send_header(name, value)
        handler.send_header("Content-Length", length or str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content[: int(len(content) * trouble.keep)])
        if trouble.keep < 1:
            handler.wfile.flush()
            handler.close_connection = True

    def _pass_on(
        self, handler: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """The server's own answer: status, headers, body."""
        connection = HTTPConnection(urlsplit(self.server).netloc, timeout=60)
        connection.request(handler.command, handler.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.headers.items()), content

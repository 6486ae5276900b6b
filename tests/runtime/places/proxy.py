"""A proxy for an HTTP server that delays, throttles or breaks connections, as a test requires."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Self
from urllib.parse import urlsplit

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
class Proxy:
    """The proxy, a context manager; `trouble` decides by method and path what happens to a request."""

    server: str
    trouble: Callable[[str, str, dict[str, str]], Trouble | None] = lambda *_: None
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    most: int = 0  # requests for bodies at a time
    url: str = ""
    _open: int = 0
    _lock: Lock = field(default_factory=Lock)

    def __enter__(self) -> Self:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.forward(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815  the library's names

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Print nothing when the command closes a connection early."""

        self._http = Server(("127.0.0.1", 0), Handler)
        Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

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

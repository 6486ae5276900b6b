"""HTTP servers in a test's own process, on a loopback port."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self


class Handler(BaseHTTPRequestHandler):
    """Answers requests, and logs none."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """Has a thread for each connection."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Print nothing when a client closes a connection early."""


class Loopback:
    """A server as a context manager; subclasses define `handler`."""

    url: str

    def handler(self) -> type[Handler]:
        """The class that answers the requests."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._http = Server(("127.0.0.1", 0), self.handler())
        Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

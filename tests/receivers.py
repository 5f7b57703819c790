"""Real receivers of telemetry: they keep what they are sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Receiver:
    """A server on the loopback that keeps what it is sent, and answers as it is told to."""

    def __init__(self) -> None:
        """Begin to listen."""
        self.received: list[tuple[str, str, bytes]] = []
        """Method, path and body of each request."""
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.keep()

            def do_PUT(self) -> None:
                self.keep()

            def keep(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.command, self.path, body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                del format, args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def bodies(self) -> list[bytes]:
        """What was sent, in order."""
        return [body for _, _, body in self.received]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Give a receiver that answers while the block lasts."""
    receiver = Receiver()
    Thread(target=receiver.server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()

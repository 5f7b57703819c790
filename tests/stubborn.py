"""A server that stays where its port is taken, and serves nobody: `python -m tests.stubborn PORT`."""

from __future__ import annotations

import signal
import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler

if __name__ == "__main__":
    try:
        with HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler) as server:
            server.serve_forever()
    except OSError:
        signal.pause()

"""Ports for servers of tests."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 20_000, 32_000
"""Above those of Ray's workers, below those that the kernel gives to whoever asks for any."""


def free_port() -> int:
    """Return a port that nobody listens on, and that the kernel gives to nobody else."""
    numbers = random.SystemRandom()  # tests side by side must not try the same ones
    while True:
        port = numbers.randint(FIRST, LAST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port

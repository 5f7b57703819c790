"""Handing a command over to the runner of `quorumlab up`, which has everything imported already.

Nothing here imports more than Python's own library: where there is no runner, it must cost nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

SOCKET = "runner.sock"
COMMANDS = ("run", "resume", "optimise")
"""Which take seconds to import what they need."""
SWITCH = "QUORUMLAB_RUNNER"
"""0: commands do everything themselves."""
CHECKOUT = Path(__file__).resolve().parents[1]
LENGTH = struct.Struct("!I")
MOST_BYTES = 4 * 2**20
"""Of a message: arguments and environment, whose limit on Linux is about half of it."""
LONGEST_PATH = 100
"""Of a socket, in bytes; Linux allows 107."""
ANSWER_SECONDS = 10.0


def hand_over(words: Sequence[str]) -> int | None:
    """Return the exit code of a command that a runner has carried out; None where none has.

    Args:
        words: The command and its arguments.
    """
    if not words or words[0] not in COMMANDS or os.environ.get(SWITCH) == "0":
        return None
    path = socket_of(_workspace(words))
    if path is None or not path.exists():
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
            connection.settimeout(ANSWER_SECONDS)
            socket.send_fds(connection, [b"q"], [0, 1, 2])
            send(connection, request(words))
            answer = receive(connection)
        except OSError:  # it is gone, or somebody else's
            return None
        if answer is None or "pid" not in answer:
            return None
        connection.settimeout(None)
        return _follow(connection, answer["pid"])


def request(words: Sequence[str]) -> dict[str, Any]:
    """Return what a runner needs to know of this process."""
    return {
        "words": list(words),
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "checkout": str(CHECKOUT),
        "python": sys.prefix,
    }


def socket_of(workspace: Path) -> Path | None:
    """Return where the runner of a workspace listens; None where no socket can have that name."""
    path = workspace.expanduser().absolute() / SOCKET
    return path if len(os.fsencode(path)) <= LONGEST_PATH else None


def _workspace(words: Sequence[str]) -> Path:
    """Return the workspace of a command, as its arguments or the environment name it."""
    found = os.environ.get("QUORUMLAB_WORKSPACE", "workspace")
    for index, word in enumerate(words):
        if word.startswith(("workspace=", "--workspace=")):
            found = word.split("=", 1)[1]
        elif word == "--workspace" and index + 1 < len(words):
            found = words[index + 1]
    return Path(found)


def _follow(connection: socket.socket, pid: int) -> int:
    """Pass signals on until the command is over; return its exit code."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    ended = receive(connection)
    if ended is None:
        print("quorumlab: error: the process of this command was killed", file=sys.stderr)
        return 128 + signal.SIGKILL
    return int(ended["exit"])


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send a message, after its length."""
    content = json.dumps(message).encode()
    connection.sendall(LENGTH.pack(len(content)) + content)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Return the next message; None where the other is gone.

    Raises:
        OSError: it is longer than any message is.
    """
    head = _exactly(connection, LENGTH.size)
    if head is None:
        return None
    (length,) = LENGTH.unpack(head)
    if length > MOST_BYTES:
        raise OSError("no message of ours")
    content = _exactly(connection, length)
    return None if content is None else json.loads(content)


def _exactly(connection: socket.socket, n_bytes: int) -> bytes | None:
    content = bytearray()
    while len(content) < n_bytes:
        part = connection.recv(n_bytes - len(content))
        if not part:
            return None
        content += part
    return bytes(content)

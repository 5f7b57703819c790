"""Named places where tests let the program die, stop, or run out of disk.

    QUORUMLAB_FAULT=commit.rows:3:kill

makes the third call of `reach("commit.rows")` in a process kill it. A fourth part names a file: the
fault happens only while it does not exist, and makes it, so that it happens once among all
processes. Call 0 is each of them. Several faults are separated by commas. Without the variable `reach`
does nothing.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sim_core.errors import ConfigurationError

VARIABLE = "QUORUMLAB_FAULT"


def _disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _disk_broken() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


_LEAKED: list[bytearray] = []


def _leak() -> None:
    _LEAKED.append(bytearray(256 << 10))


def _dawdle() -> None:
    until = time.perf_counter() + 0.02
    while time.perf_counter() < until:
        pass


ACTIONS: dict[str, Callable[[], None]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "full": _disk_full,
    "broken": _disk_broken,
    "leak": _leak,
    "dawdle": _dawdle,
}
"""What may happen at a point."""


@dataclass(frozen=True)
class Fault:
    """What happens at which call of which point."""

    point: str
    call: int
    action: str
    once: Path | None

    def strike(self) -> None:
        """Let it happen."""
        if self.once is not None:
            try:
                self.once.touch(exist_ok=False)
            except FileExistsError:
                return
        ACTIONS[self.action]()


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Return the faults that a text asks for.

    Raises:
        ConfigurationError: it is no list of POINT:CALL:ACTION[:FILE].

    >>> parse_faults("commit.rows:3:kill")
    (Fault(point='commit.rows', call=3, action='kill', once=None),)
    """
    faults = []
    for part in filter(None, text.split(",")):
        words = part.split(":", 3)
        known = len(words) >= 3 and words[1].isdecimal() and words[2] in ACTIONS
        if not known:
            raise ConfigurationError(
                f"{VARIABLE}={part!r} is no POINT:CALL:ACTION, with an action of {', '.join(ACTIONS)}"
            )
        once = Path(words[3]) if len(words) == 4 else None
        faults.append(Fault(words[0], int(words[1]), words[2], once))
    return tuple(faults)


_FAULTS = parse_faults(os.environ.get(VARIABLE, ""))
_CALLS: Counter[str] = Counter()


def reach(point: str) -> None:
    """Say that the program is at a point."""
    if not _FAULTS:
        return
    _CALLS[point] += 1
    for fault in _FAULTS:
        if fault.point == point and fault.call in (0, _CALLS[point]):
            fault.strike()

"""A process that ends past Python says why all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal
from tasks.last_words import last_words
with last_words("gone; what is committed stays"):
    {}
"""


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "gone; what is committed stays\n"),
        ("os._exit(1)", "gone; what is committed stays\n"),
        ("pass", ""),
        ("raise SystemExit(2)", ""),
    ],
)
def test_last_words_are_said_by_the_dead_alone(ending: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(ending)], capture_output=True, text=True, check=False
    )
    assert done.stderr == said

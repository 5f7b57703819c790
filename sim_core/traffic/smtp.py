"""Replay of the smtp set of ADBench (Han et al., NeurIPS 2022), from KDD Cup 1999."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sim_core.config import ModelConfig, SmtpTraffic, TableColumns
from sim_core.datasets import SMTP, find_files, require_published
from sim_core.randomness import Streams
from sim_core.traffic.replay import Replay, replay_rows
from sim_core.traffic.rows import Rows, read_rows

FEATURES = ("log_duration", "log_src_bytes", "log_dst_bytes")
"""Natural logarithms of duration (s), bytes sent and bytes received, each + 0.1."""
LOG_OFFSET = 0.1
SENT, RECEIVED = 1, 2


def replay_smtp(config: ModelConfig, streams: Streams) -> Replay:
    """Return the replay of the set; a share of its benign rows starts it.

    Raises:
        DataError: the file is missing, damaged or another one.
    """
    settings = config.traffic
    assert isinstance(settings, SmtpTraffic)
    (path,) = smtp_files(settings)
    return replay_rows(config, settings, streams, read_smtp(path))


def smtp_files(settings: SmtpTraffic) -> tuple[Path, ...]:
    """Return the path of the file.

    Raises:
        DataError: no folder is named, or the file is not there.
    """
    return find_files(SMTP, settings.path, [SMTP.files[0].path])


def read_smtp(path: Path) -> Rows:
    """Return the labelled rows, with the bytes of a flow (both directions) from its features.

    Raises:
        DataError: naming file, column and row of the first thing that is wrong.
    """
    rows = read_rows(path, TableColumns(label="y", benign=("0", "0.0")))
    require_published(path, SMTP.files[0])
    n_bytes = np.exp(rows.values[:, [SENT, RECEIVED]]) - LOG_OFFSET
    return replace(
        rows,
        numeric=FEATURES,
        families=("attack",),
        bytes_transferred=np.rint(n_bytes.sum(axis=1)).astype(np.int64),
    )

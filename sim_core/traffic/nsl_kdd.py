"""Replay of NSL-KDD (Tavallaee, Bagheri, Lu and Ghorbani, IEEE CISDA 2009)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim_core.config import ModelConfig, NslKddTraffic
from sim_core.errors import DataError
from sim_core.randomness import BLOCK_NODES, Streams
from sim_core.traffic.base import (
    ICMP,
    REFERENCE_FLOWS,
    STEP_MILLISECONDS,
    TCP,
    UDP,
    FlowRecords,
    Flows,
    Target,
    address,
    scramble,
)

SYMBOLIC = ("protocol_type", "service", "flag")
CONNECTION = """duration protocol_type service flag src_bytes dst_bytes land wrong_fragment urgent
hot num_failed_logins logged_in num_compromised root_shell su_attempted num_root
num_file_creations num_shells num_access_files num_outbound_cmds is_host_login is_guest_login
count srv_count serror_rate srv_serror_rate rerror_rate srv_rerror_rate same_srv_rate
diff_srv_rate srv_diff_host_rate dst_host_count dst_host_srv_count dst_host_same_srv_rate
dst_host_diff_srv_rate dst_host_same_src_port_rate dst_host_srv_diff_host_rate
dst_host_serror_rate dst_host_srv_serror_rate dst_host_rerror_rate dst_host_srv_rerror_rate"""
COLUMNS = (*CONNECTION.split(), "label", "difficulty")
NUMERIC = tuple(c for c in COLUMNS[:-2] if c not in SYMBOLIC)
SHA256 = {
    "KDDTest+.txt": "fa46b0935342616aa83b7c2578db355b6a7aaabbc492248172c7a1e8b7ab8f84",
    "KDDTrain+_20Percent.txt": "7ea86479faab5ca2190b7f18b4982fb058ce5bf2b46e0e1017d0d9ef90f9c16e",
}
FAMILIES = ("dos", "probe", "r2l", "u2r")
ATTACKS = {
    "dos": "apache2 back land mailbomb neptune pod processtable smurf teardrop udpstorm worm",
    "probe": "ipsweep mscan nmap portsweep saint satan",
    "r2l": "ftp_write guess_passwd httptunnel imap multihop named phf sendmail snmpgetattack "
    "snmpguess spy warezclient warezmaster xlock xsnoop",
    "u2r": "buffer_overflow loadmodule perl ps rootkit sqlattack xterm",
}
LABELS = {"normal": 0} | {
    attack: FAMILIES.index(family) + 1
    for family, names in ATTACKS.items()
    for attack in names.split()
}
PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP}


@dataclass(frozen=True)
class Rows:
    """One file as arrays."""

    values: NDArray[np.float64]
    """Numeric columns `[n_rows, 38]`."""
    label: NDArray[np.int16]
    protocol: NDArray[np.uint8]
    bytes_sent: NDArray[np.int64]


class NslKdd:
    """Flows drawn per node, with replacement, from the labelled rows of a file.

    Scaler, detector and threshold start from benign rows of another file, or from a share of the
    same file's benign rows, which are then not replayed. Columns constant there are dropped.
    """

    families = FAMILIES

    def __init__(self, config: ModelConfig, streams: Streams) -> None:
        """Read, split, transform and scale the rows.

        Raises:
            DataError: a file is missing, damaged or has the wrong columns.
        """
        assert isinstance(config.traffic, NslKddTraffic)
        settings = config.traffic
        self._n_nodes = config.simulation.nodes
        self._n_flows = config.simulation.flows_per_node
        self._streams = streams
        replay_path, warmup_path = nsl_kdd_files(settings)
        rows = read_nsl_kdd(replay_path)
        if warmup_path == replay_path:
            benign = np.flatnonzero(rows.label == 0)
            order = streams.generator("partition").permutation(benign.size)
            taken = benign[order[: max(1, round(settings.warmup_share * benign.size))]]
            pool = rows.values[taken]
            kept = np.setdiff1d(np.arange(rows.label.size), taken)
            rows = Rows(
                rows.values[kept],
                rows.label[kept],
                rows.protocol[kept],
                rows.bytes_sent[kept],
            )
        else:
            other = read_nsl_kdd(warmup_path)
            pool = other.values[other.label == 0]
        if settings.transform == "log1p":
            pool, values = np.log1p(pool), np.log1p(rows.values)
        else:
            values = rows.values
        location, scale = pool.mean(axis=0), pool.std(axis=0)
        varying = np.flatnonzero(scale > 0)
        if varying.size == 0:
            raise DataError(f"{warmup_path}: every numeric column is constant in its benign rows")
        self.feature_names = tuple(NUMERIC[i] for i in varying)
        self._pool = _standardise(pool, location, scale, varying)
        self._values = _standardise(values, location, scale, varying)
        self._rows = rows
        self._attack = np.flatnonzero(rows.label > 0)
        self._benign = np.flatnonzero(rows.label == 0)
        if self._benign.size == 0 and settings.attack_share != 1:
            raise DataError(
                f"{replay_path}: no benign row is left to replay: set a smaller traffic.warmup_share"
            )
        present = sorted(set(rows.label[self._attack].tolist()))
        self.targets = tuple(Target(FAMILIES[k - 1], k, 0, None) for k in present)
        self._attack_share = settings.attack_share

    def warmup(self) -> NDArray[np.float32]:
        """Return the benign pool, shared by all nodes, `[1, n_rows, n_features]`."""
        return self._pool[None]

    def draw(self, step: int) -> Flows:
        """Return rows drawn with replacement."""
        u = self._streams.per_node(
            "traffic",
            self._n_nodes,
            lambda rng: rng.random((BLOCK_NODES, 2, self._n_flows)),
            step=step,
        )
        if self._attack_share is None:
            origin = (u[:, 0] * self._rows.label.size).astype(np.int32)
        else:
            attack, benign = self._attack, self._benign
            origin = np.where(
                u[:, 1] < self._attack_share,
                attack[(u[:, 0] * attack.size).astype(np.int64)],
                benign[(u[:, 0] * benign.size).astype(np.int64)] if benign.size else 0,
            ).astype(np.int32)
        return Flows(self._values[origin], self._rows.label[origin], origin)

    def references(self) -> NDArray[np.float32]:
        """Return rows of each attack family `[n_targets, 64, n_features]`, with replacement."""
        rng = self._streams.generator("reference")
        found = [
            self._values[rng.choice(np.flatnonzero(self._rows.label == t.family), REFERENCE_FLOWS)]
            for t in self.targets
        ]
        shape = (0, REFERENCE_FLOWS, len(self.feature_names))
        return np.stack(found) if found else np.empty(shape, dtype=np.float32)

    def describe(
        self, step: int, flows: Flows, nodes: NDArray[Any], columns: NDArray[Any]
    ) -> FlowRecords:
        """Return records; the file has no addresses, so a row's source is made from its number."""
        origin = flows.origin[nodes, columns]
        noise = scramble(nodes, columns, step)
        return FlowRecords(
            timestamp=step * STEP_MILLISECONDS
            + (noise >> np.uint64(20)).astype(np.int64) % STEP_MILLISECONDS,
            source_ip=address("198.18.0.0", scramble(origin) % np.uint64(1 << 17)),
            destination_ip=address("10.0.0.0", nodes),
            bytes_transferred=self._rows.bytes_sent[origin],
            protocol=self._rows.protocol[origin],
        )


def nsl_kdd_files(settings: NslKddTraffic) -> tuple[Path, Path]:
    """Return the paths of the replayed file and of the warm-up file.

    Raises:
        DataError: no folder is named, or a file is not there.
    """
    root = os.environ.get("QUORUMLAB_DATA")
    if settings.path is not None:
        folder = Path(settings.path).expanduser()
    elif root:
        folder = Path(root).expanduser() / "nsl-kdd"
    else:
        raise DataError(
            "traffic=nsl_kdd needs the folder with KDDTest+.txt and KDDTrain+_20Percent.txt: "
            "set traffic.path=FOLDER, or QUORUMLAB_DATA to the folder above nsl-kdd"
        )
    paths = folder / settings.file, folder / settings.warmup_file
    for path in paths:
        if not path.is_file():
            raise DataError(
                f"data file not found: {path.absolute()}. Set traffic.path to the folder that "
                "holds KDDTest+.txt and KDDTrain+_20Percent.txt"
            )
    return paths


def read_nsl_kdd(path: Path) -> Rows:
    """Return a file's rows.

    Raises:
        DataError: naming file, column and row of the first thing that is wrong.
    """
    try:
        return _read(path, path.stat().st_mtime_ns, path.stat().st_size)
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4)
def _read(path: Path, modified: int, size: int) -> Rows:
    """Read a file; modification time and size are there for the cache to notice changes."""
    del modified, size
    content = path.read_bytes()
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, row {row}: not text (byte {error.start}): damaged?") from error
    for number, line in enumerate(lines, 1):
        if line.count(",") + 1 != len(COLUMNS):
            raise DataError(
                f"{path}, row {number}: {line.count(',') + 1} columns, expected {len(COLUMNS)}: "
                "is the file damaged or another one?"
            )
    cells = [line.split(",") for line in lines]
    frame = pd.DataFrame(cells, columns=list(COLUMNS))
    values = np.column_stack([_numbers(path, frame, name) for name in NUMERIC])
    label = _codes(path, frame, "label", LABELS).astype(np.int16)
    protocol = _codes(path, frame, "protocol_type", PROTOCOLS).astype(np.uint8)
    found = hashlib.sha256(content).hexdigest()
    expected = SHA256.get(path.name)
    if expected is not None and found != expected:
        raise DataError(
            f"{path} is damaged or not the published file: SHA-256 is {found}, expected {expected}. "
            "Fetch it again"
        )
    return Rows(values, label, protocol, values[:, NUMERIC.index("src_bytes")].astype(np.int64))


def _numbers(path: Path, frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if wrong.size:
        raise DataError(
            f"{path}, row {wrong[0] + 1}, column {name}: {frame[name].iloc[wrong[0]]!r} is not a "
            "finite number"
        )
    return numbers


def _codes(path: Path, frame: pd.DataFrame, name: str, codes: dict[str, int]) -> NDArray[Any]:
    found = frame[name].map(codes)
    wrong = np.flatnonzero(found.isna().to_numpy())
    if wrong.size:
        raise DataError(
            f"{path}, row {wrong[0] + 1}, column {name}: unknown value {frame[name].iloc[wrong[0]]!r}"
        )
    return found.to_numpy()


def _standardise(
    values: NDArray[np.float64],
    location: NDArray[np.float64],
    scale: NDArray[np.float64],
    varying: NDArray[Any],
) -> NDArray[np.float32]:
    standard: NDArray[np.float64] = (values[:, varying] - location[varying]) / scale[varying]
    return standard.astype(np.float32)

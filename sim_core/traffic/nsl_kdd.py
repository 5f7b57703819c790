"""Replay of NSL-KDD (Tavallaee, Bagheri, Lu and Ghorbani, IEEE CISDA 2009).

The files have neither times nor addresses, and their rows are shuffled: order `time` is that of the file.
"""

from __future__ import annotations

from pathlib import Path

from sim_core.config import ModelConfig, NslKddTraffic, TableColumns
from sim_core.datasets import NSL_KDD, find_files, require_published
from sim_core.randomness import Streams
from sim_core.traffic.replay import Replay, replay_rows
from sim_core.traffic.rows import Rows, read_rows

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
FAMILIES = ("dos", "probe", "r2l", "u2r")
ATTACKS = {
    "dos": "apache2 back land mailbomb neptune pod processtable smurf teardrop udpstorm worm",
    "probe": "ipsweep mscan nmap portsweep saint satan",
    "r2l": "ftp_write guess_passwd httptunnel imap multihop named phf sendmail snmpgetattack "
    "snmpguess spy warezclient warezmaster xlock xsnoop",
    "u2r": "buffer_overflow loadmodule perl ps rootkit sqlattack xterm",
}
FAMILY_OF = {attack: family for family, names in ATTACKS.items() for attack in names.split()}


def replay_nsl_kdd(config: ModelConfig, streams: Streams) -> Replay:
    """Return the replay of one file; another one's benign rows, or a share of its own, start it.

    Raises:
        DataError: a file is missing, damaged or has the wrong columns.
    """
    settings = config.traffic
    assert isinstance(settings, NslKddTraffic)
    path, warmup_path = nsl_kdd_files(settings)
    rows = read_nsl_kdd(path, settings.split_column)
    warmup = None if warmup_path == path else read_nsl_kdd(warmup_path, settings.split_column)
    return replay_rows(config, settings, streams, rows, warmup)


def nsl_kdd_files(settings: NslKddTraffic) -> tuple[Path, Path]:
    """Return the paths of the replayed file and of the warm-up file.

    Raises:
        DataError: no folder is named, or a file is not there.
    """
    names = settings.file, settings.warmup_file
    path, warmup_path = find_files(NSL_KDD, settings.path, names)
    return path, warmup_path


def read_nsl_kdd(path: Path, split_column: str = "service") -> Rows:
    """Return a file's rows; `split_column` is the id of split `column`.

    Raises:
        DataError: naming file, column and row of the first thing that is wrong.
    """
    columns = TableColumns(
        label="label",
        benign=("normal",),
        numeric=NUMERIC,
        symbolic=SYMBOLIC,
        ignore=("difficulty",),
        node=split_column,
        bytes_transferred="src_bytes",
        protocol="protocol_type",
    )
    rows = read_rows(path, columns, names=COLUMNS, families=FAMILY_OF)
    require_published(path, NSL_KDD.file(path.name))
    return rows

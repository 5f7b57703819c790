"""Known data sets: where from, under which licence, and what their files must hash to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sim_core.errors import DataError

GITHUB = "https://raw.githubusercontent.com"
STREAMS = {
    "ec2_network_in_257a54": "realAWSCloudwatch/ec2_network_in_257a54.csv",
    "ec2_network_in_5abac7": "realAWSCloudwatch/ec2_network_in_5abac7.csv",
    "elb_request_count_8c0756": "realAWSCloudwatch/elb_request_count_8c0756.csv",
    "iio_us-east-1_i-a2eb1cd9_NetworkIn": "realAWSCloudwatch/iio_us-east-1_i-a2eb1cd9_NetworkIn.csv",
    "ec2_request_latency_system_failure": "realKnownCause/ec2_request_latency_system_failure.csv",
}
"""Streams of the Numenta Anomaly Benchmark that are known here, and their files below `data`."""

SCORES = """
ARTime 6070 b3f7b71ff28bd9c08c9a3cd6f522726829b13edbbfc99ee60e9d4bceccd93818
bayesChangePt 6604 cafc3aaae83a2f3ba2449c3d3ae120b88431902b21b6c531dcd38ed1322e5778
contextOSE 6361 0430098501781957ded351348a9b49a74c54cf33fca919ef9d56cb9f876cc041
earthgeckoSkyline 6152 296a5458ca22908945647aeffa2358392dc81b06824192569d55ae918009c8e4
expose 6043 e67a1236137e14d16e16cef3f7c480f5b337a9e42c03354a31c49fc27de2853f
htmjava 6106 0d0aa0bcac2de2f26716b79be9b6e49e50df310cd7247d9943cd6497d2e96dfa
knncad 5824 66308cd53c66abc746331cd23e51a03b11b8f224e5282b094e0c7cb480c4331b
null 4946 390237205e89a4fd3c7d86ee5b1414784ce40871adefbb80738a8fb755b340c4
numentaTM 6235 5338b8b2d982ff1b8de455a745e192ee0eea1c5466ee67dad93d45b5b8813e62
numenta 6268 9144ca15ac471f42ceff6bc61055ee97de280c9ed92ceffd89ab01960b5b5e3c
randomCutForest 6676 d010c5e046abf6597c99d05d0843123a57936a75f3bf643e8fbb95d7aa4a2f8d
random 3631 c9655b4cea177bcdb16c977e74982ee777b697242852e5141dc2301be6765733
relativeEntropy 6074 a229e94ca1ef3d80920a9a528120acaf51f5f96ab381a8df1091a1eaa10f3651
skyline 5801 5869a9179f7c6b00763acedc0be3e1b49e8dfbb79160ff18acf61e1cf17d9bb5
twitterADVec 5901 56b6aa2abb07d29b34d801a8880b968a8e0a745c72bab4ae2f1dbc1bc61f3618
windowedGaussian 6033 2563c591b3ad70b2f7fd9f6ae59c51ba509a855b02c47586f11a298840a4b045
"""
"""Detector, bytes and SHA-256 of its published scores, standard profile."""


@dataclass(frozen=True)
class DataFile:
    """One file of a data set."""

    path: str
    """Below the folder of the data set."""
    n_bytes: int
    sha256: str
    upstream: str
    """Path in the repository that it comes from."""
    keys: tuple[str, ...] = ()
    """Keys that are kept of the JSON object upstream, written with an indent of 1; none: all bytes."""


@dataclass(frozen=True)
class Dataset:
    """A data set that can be fetched, checked and replayed."""

    name: str
    title: str
    folder: str
    """Below the folder that QUORUMLAB_DATA names."""
    repository: str
    commit: str
    licence: str
    citation: str
    files: tuple[DataFile, ...]

    @property
    def n_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.n_bytes for file in self.files)

    def file(self, path: str) -> DataFile:
        """Return the file of this path."""
        return next(file for file in self.files if file.path == path)


def _verbatim(prefix: str, upstream: str, *files: tuple[str, int, str]) -> tuple[DataFile, ...]:
    """Return files that are the same here and there but for the folders above them."""
    return tuple(DataFile(prefix + path, size, sha, upstream + path) for path, size, sha in files)


def _scores() -> Iterator[DataFile]:
    """Yield the published scores of the Numenta Anomaly Benchmark, a file per detector."""
    for line in SCORES.split("\n")[1:-1]:
        detector, size, sha = line.split()
        name = f"{detector}_standard_scores.csv"
        yield DataFile(f"published_scores/{name}", int(size), sha, f"results/{detector}/{name}")


NSL_KDD = Dataset(
    name="nsl_kdd",
    title="NSL-KDD: labelled connections of a testbed, attacks of four families",
    folder="nsl-kdd",
    repository="jmnwong/NSL-KDD-Dataset",
    commit="9d544d0eb9b87d7e2f43ff65733bdb644631d12f",
    licence="research use with citation (University of New Brunswick); the mirror names no licence",
    citation=(
        "Tavallaee, Bagheri, Lu, Ghorbani: A Detailed Analysis of the KDD CUP 99 Data Set, "
        "IEEE CISDA 2009"
    ),
    files=_verbatim(
        "",
        "",
        (
            "KDDTest+.txt",
            3441513,
            "fa46b0935342616aa83b7c2578db355b6a7aaabbc492248172c7a1e8b7ab8f84",
        ),
        (
            "KDDTrain+_20Percent.txt",
            3822033,
            "7ea86479faab5ca2190b7f18b4982fb058ce5bf2b46e0e1017d0d9ef90f9c16e",
        ),
    ),
)
SMTP = Dataset(
    name="smtp",
    title="smtp of ADBench: three features of mail connections of KDD Cup 1999, 30 attacks",
    folder="adbench",
    repository="Minqi824/ADBench",
    commit="3dac8221081e190f157d78e93bfa8867f90d0965",
    licence="BSD-2-Clause",
    citation=(
        "Han, Hu, Huang, Jiang, Zhao: ADBench: Anomaly Detection Benchmark, NeurIPS 2022, "
        "arXiv 2206.09426; KDD Cup 1999 Data, UCI"
    ),
    files=_verbatim(
        "",
        "adbench/datasets/Classical/",
        (
            "34_smtp.npz",
            496392,
            "d2569fc9bc12115419e3f5b37d19921e10e6c26e5ad1e61064cfb0fbc402dfdd",
        ),
    ),
)
NAB = Dataset(
    name="nab",
    title="Numenta Anomaly Benchmark: telemetry of five machines with labelled anomalies",
    folder="nab",
    repository="numenta/NAB",
    commit="ea702d75cc2258d9d7dd35ca8e5e2539d71f3140",
    licence="MIT",
    citation=(
        "Ahmad, Lavin, Purdy, Agha: Unsupervised real-time anomaly detection for streaming data, "
        "Neurocomputing 262, 2017, doi 10.1016/j.neucom.2017.04.070"
    ),
    files=(
        *_verbatim(
            "",
            "",
            (
                "LICENSE.txt",
                1056,
                "0a0b4d0b10cb1f7ed9ab2993ef93defc03447e6eba9daca1315dd32dae4877e3",
            ),
        ),
        *_verbatim(
            "data/",
            "data/",
            (
                STREAMS["ec2_network_in_257a54"],
                117236,
                "39104b08f2e0a673b5137eb7681897fcadf0955fedf565740a6a94edc63a81a4",
            ),
            (
                STREAMS["ec2_network_in_5abac7"],
                120827,
                "c27ef93f582af63bf42e80d804764cbe64ae987620f3cfab5477d6ebb3c6157e",
            ),
            (
                STREAMS["elb_request_count_8c0756"],
                101052,
                "74c26574a01ca9fb89dddb5021e2e13c3a93eb25dc640438a9acb1ceb00f1021",
            ),
            (
                STREAMS["iio_us-east-1_i-a2eb1cd9_NetworkIn"],
                37339,
                "f115fbe6542159eed5612445bfa620708a28ab6b41349d1432bb15c3a3b8414d",
            ),
            (
                STREAMS["ec2_request_latency_system_failure"],
                123428,
                "98378580aa80157e057c61d59d81daddccc6c65a2c0c800e3f01f603b8215c3f",
            ),
        ),
        DataFile(
            "labels/combined_windows.json",
            1033,
            "79bed83e88ede00fa944b70558d680eb81d9feb085ca44159a30a4e625450f04",
            "labels/combined_windows.json",
            keys=tuple(STREAMS.values()),
        ),
        DataFile(
            "labels/combined_labels.json",
            543,
            "e38e7e98856a35ed661f27895d28d6545e19856e5793f97205e0e7a29cf788b9",
            "labels/combined_labels.json",
            keys=tuple(STREAMS.values()),
        ),
        DataFile(
            "published_scores/final_results.json",
            2403,
            "079a91e5c7d27337d7e242ed642f20c4901d40189c5f96d2f8e9a345edc15223",
            "results/final_results.json",
        ),
        *_scores(),
    ),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (NSL_KDD, SMTP, NAB)}


def find_files(dataset: Dataset, path: str | None, files: Sequence[str]) -> tuple[Path, ...]:
    """Return where files of a data set are: below `path`, or below QUORUMLAB_DATA.

    A data set of one file may be named by that file.

    Raises:
        DataError: no folder is named, or a file is not there.
    """
    root = os.environ.get("QUORUMLAB_DATA")
    if path is not None:
        folder = Path(path).expanduser()
        if folder.is_file() and len(dataset.files) == 1:
            return (folder,)
    elif root:
        folder = Path(root).expanduser() / dataset.folder
    else:
        raise DataError(
            f"traffic={dataset.name} needs the folder with {' and '.join(dict.fromkeys(files))}: "
            f"set traffic.path=FOLDER, or QUORUMLAB_DATA to the folder above {dataset.folder} "
            f"(quorumlab data fetch {dataset.name} gets the files)"
        )
    paths = tuple(folder / name for name in files)
    for found in paths:
        if not found.is_file():
            raise DataError(
                f"data file not found: {found.absolute()}. Set traffic.path to the folder that "
                f"holds {' and '.join(dict.fromkeys(files))} "
                f"(quorumlab data fetch {dataset.name} gets them)"
            )
    return paths


def require_published(path: Path, file: DataFile) -> None:
    """Make sure that a file is the published one.

    Raises:
        DataError: its SHA-256 differs, or it cannot be read.
    """
    try:
        status = path.stat()
        found = _sha256(path.absolute(), status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror}") from error
    require_digest(path, found, file)


def require_digest(path: Path, found: str, file: DataFile) -> None:
    """Make sure that a SHA-256 is that of the published file.

    Raises:
        DataError: it is not.
    """
    if found != file.sha256:
        raise DataError(
            f"{path} is damaged or not the published file: SHA-256 is {found}, expected "
            f"{file.sha256}. Fetch it again, or replay it as traffic=table"
        )


def kept_keys(content: bytes, keys: Sequence[str]) -> bytes:
    r"""Return a JSON object with only some of its keys, in its own order, indented by 1.

    Raises:
        ValueError: it is no JSON object.

    >>> kept_keys(b'{"b": 1, "a": [], "c": 2}', ["a", "b"])
    b'{\n "b": 1,\n "a": []\n}'
    """
    whole = json.loads(content)
    if not isinstance(whole, dict):
        raise ValueError("no JSON object")
    kept = {key: value for key, value in whole.items() if key in keys}
    return json.dumps(kept, indent=1).encode()


@cache
def _sha256(path: Path, modified: int, size: int) -> str:
    """Hash a file; modification time and size are there for the cache to notice changes."""
    del modified, size
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

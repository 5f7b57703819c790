"""The registry of data sets says what the published files are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

import pytest

from sim_core.datasets import DATASETS, NAB, STREAMS, Dataset, kept_keys, require_published
from sim_core.errors import DataError

FILES = [(dataset, file) for dataset in DATASETS.values() for file in dataset.files]


@pytest.mark.parametrize(("dataset", "file"), FILES, ids=[f"{d.name}/{f.path}" for d, f in FILES])
def test_registry_has_size_and_digest_of_the_real_file(dataset, file, data_folder: Path):
    content = (data_folder / dataset.folder / file.path).read_bytes()
    assert len(content) == file.n_bytes
    assert hashlib.sha256(content).hexdigest() == file.sha256


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_paths_stay_below_the_folder_and_are_unique(dataset: Dataset):
    paths = [file.path for file in dataset.files]
    assert len(set(paths)) == len(paths)
    for path in (dataset.folder, *paths, *(file.upstream for file in dataset.files)):
        assert not PurePosixPath(path).is_absolute()
        assert ".." not in PurePosixPath(path).parts
    assert len(dataset.commit) == 40
    assert dataset.licence
    assert dataset.citation


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_file_is_found_by_its_path(dataset: Dataset):
    assert [dataset.file(file.path) for file in dataset.files] == list(dataset.files)
    assert dataset.n_bytes == sum(file.n_bytes for file in dataset.files)


@pytest.mark.parametrize("name", ["labels/combined_windows.json", "labels/combined_labels.json"])
@pytest.mark.parametrize("indent", [None, 4])
def test_filtered_labels_do_not_depend_on_upstream_formatting(
    name: str, indent: int | None, data_folder: Path
):
    ours = (data_folder / "nab" / name).read_bytes()
    whole = {"artificialNoAnomaly/art_noisy.csv": [], **json.loads(ours), "realTweets/x.csv": []}
    kept = kept_keys(json.dumps(whole, indent=indent).encode(), NAB.file(name).keys)
    assert kept == ours
    assert set(json.loads(kept)) == set(STREAMS.values())


@pytest.mark.parametrize("content", [b"", b"[1]", b"<html>", b"\xff\xfe"])
def test_what_is_no_object_cannot_be_filtered(content: bytes):
    with pytest.raises(ValueError):  # noqa: PT011 (the kinds differ, their base counts)
        kept_keys(content, ["a"])


def test_changed_file_is_refused_with_both_digests(data_folder: Path, tmp_path: Path):
    file = NAB.file("LICENSE.txt")
    content = (data_folder / "nab" / file.path).read_bytes()
    copy = tmp_path / "LICENSE.txt"
    copy.write_bytes(content)
    require_published(copy, file)
    copy.write_bytes(content + b"\n")
    with pytest.raises(DataError) as refused:
        require_published(copy, file)
    assert file.sha256 in str(refused.value)
    assert hashlib.sha256(content + b"\n").hexdigest() in str(refused.value)

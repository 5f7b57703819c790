"""Checkpoints: states as bytes that come back bit for bit or not at all, files never torn."""

from __future__ import annotations

import hashlib
import os
import pickle  # noqa: TID251 - to show that it is refused
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard

from sim_core import checkpoint
from sim_core.checkpoint import (
    COMPRESSED,
    LARGEST_COMPRESSED,
    SCHEMA,
    Checkpoint,
    CheckpointFolder,
    decode,
    encode,
)
from sim_core.errors import CheckpointMismatch, CheckpointUnwritten
from sim_core.model import NetworkModel
from sim_core.state import State
from tests.damage import damage

RUN_KEY, OTHER_KEY = "ab" * 32, "cd" * 32
MUTATIONS = 300


def bits(state: State) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {k: (a.dtype.str, a.shape, a.tobytes()) for k, a in state.to_arrays().items()}


@pytest.fixture
def model(make_model: Callable[..., NetworkModel]) -> NetworkModel:
    """Return a model in mid-run, with pending proposals, signatures and a node that is down."""
    model = make_model(
        adversary={"kind": "poisoner"},
        churn={"crash_rate": 0.2},
        consensus={"kind": "majority", "min_turnout": 1.0},
    )
    for _ in range(10):
        model.step()
    return model


@pytest.fixture
def content(model: NetworkModel) -> bytes:
    return encode(model.state, RUN_KEY)


def test_states_of_all_steps_come_back_bit_for_bit(make_model: Callable[..., NetworkModel]):
    model = make_model(adversary={"kind": "poisoner"}, churn={"crash_rate": 0.2})
    seen = dict.fromkeys(("proposals", "signatures", "down"), False)
    for _ in range(13):
        restored = decode(encode(model.state, RUN_KEY), RUN_KEY)
        assert bits(restored) == bits(model.state)
        assert restored.step == model.state.step
        assert type(restored.step) is type(restored.next_proposal) is int
        assert type(restored.head) is bytes
        seen["proposals"] |= len(model.state.proposals) > 0
        seen["signatures"] |= len(model.state.signatures) > 0
        seen["down"] |= not model.state.up.all()
        model.step()
    assert all(seen.values()), seen


def test_restored_arrays_are_writable_and_their_own(content: bytes):
    restored = decode(content, RUN_KEY)
    for name, array in restored.to_arrays().items():
        if name != "head":  # bytes
            assert array.flags.writeable, name


def test_odd_numbers_survive(model: NetworkModel):
    model.state.immune = np.array([np.nan, -0.0])
    model.state.nodes.threshold = np.full(8, np.inf, dtype=np.float32)
    model.state.nodes.recent = np.zeros((8, 32, 8), dtype=np.float32)
    model.state.nodes.recent[3, 2, 1] = np.float32(1e-45)
    model.state.nodes.recent[7, 31, 7] = np.float32(-0.0)
    assert len(encode(model.state, RUN_KEY)) < 60_000, "mostly zeros should be packed as such"
    assert bits(decode(encode(model.state, RUN_KEY), RUN_KEY)) == bits(model.state)


def test_equal_states_give_equal_bytes(model: NetworkModel, content: bytes):
    assert encode(decode(content, RUN_KEY), RUN_KEY) == content


def test_mostly_empty_arrays_are_small(content: bytes):
    assert len(content) < 60_000, "the score histogram alone is half a megabyte"


def test_checkpoint_of_another_run_is_refused(content: bytes):
    with pytest.raises(CheckpointMismatch) as refused:
        decode(content, OTHER_KEY, source="some/file")
    assert (refused.value.expected, refused.value.found) == (f"run {OTHER_KEY}", RUN_KEY)
    assert "some/file" in str(refused.value)


def test_checkpoint_of_another_schema_is_refused(content: bytes):
    found = msgspec.msgpack.decode(content, type=Checkpoint)
    found.schema = SCHEMA + 1
    with pytest.raises(CheckpointMismatch, match=f"expected schema {SCHEMA}"):
        decode(msgspec.msgpack.encode(found), RUN_KEY)


# --- compressed ---------------------------------------------------------------------------


def test_compressed_state_comes_back_bit_for_bit_and_is_smaller(
    model: NetworkModel, content: bytes
):
    compressed = encode(model.state, RUN_KEY, compress=True)
    assert len(compressed) < 0.9 * len(content)
    assert bits(decode(compressed, RUN_KEY)) == bits(model.state)
    assert not content.startswith(COMPRESSED), "else nobody could tell them apart"
    with pytest.raises(CheckpointMismatch, match=f"expected run {OTHER_KEY}"):
        decode(compressed, OTHER_KEY)


def claiming(content: bytes, n_bytes: int) -> bytes:
    """Return compressed bytes whose header claims another size (RFC 8878, 3.1.1.1)."""
    header = COMPRESSED + bytes([0b1110_0000]) + n_bytes.to_bytes(8, "little")
    size = zstandard.frame_header_size(content)
    return header + content[size:]


@pytest.mark.parametrize("n_bytes", [LARGEST_COMPRESSED + 1, 1 << 62])
def test_size_that_is_claimed_is_refused_before_memory_is_asked_for(
    model: NetworkModel, n_bytes: int, monkeypatch: pytest.MonkeyPatch
):
    bomb = claiming(encode(model.state, RUN_KEY, compress=True), n_bytes)
    assert zstandard.frame_content_size(bomb) == n_bytes
    monkeypatch.delattr(zstandard, "ZstdDecompressor")  # who gets so far has not looked
    with pytest.raises(CheckpointMismatch, match=f"{n_bytes} bytes after compression"):
        decode(bomb, RUN_KEY)


def test_small_file_that_unfolds_to_gigabytes_is_refused():
    stream = zstandard.ZstdCompressor().compressobj()
    zeros = bytes(1 << 24)
    bomb = b"".join(stream.compress(zeros) for _ in range(80)) + stream.flush()
    assert len(bomb) < 200_000
    with pytest.raises(CheckpointMismatch, match="no size"):
        decode(bomb, RUN_KEY)


def test_what_could_not_be_read_back_is_not_compressed(
    model: NetworkModel, content: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoint, "LARGEST_COMPRESSED", len(content) - 1)
    assert encode(model.state, RUN_KEY, compress=True) == content
    monkeypatch.setattr(checkpoint, "LARGEST_COMPRESSED", len(content))
    assert encode(model.state, RUN_KEY, compress=True).startswith(COMPRESSED)


def test_bytes_after_the_compressed_ones_and_a_wrong_size_are_refused(model: NetworkModel):
    compressed = encode(model.state, RUN_KEY, compress=True)
    for damaged in (compressed + b"more", compressed + compressed, claiming(compressed, 9)):
        with pytest.raises(CheckpointMismatch):
            decode(damaged, RUN_KEY)


def test_damaged_compressed_bytes_give_a_state_or_a_mismatch_and_never_anything_else(
    model: NetworkModel,
):
    compressed = encode(model.state, RUN_KEY, compress=True)
    damages = [*mutations(compressed), compressed + b"more", claiming(compressed, 9)]
    for damaged in damages:
        try:
            assert isinstance(decode(damaged, RUN_KEY), State)
        except CheckpointMismatch:
            continue


def tampered(content: bytes, name: str, **changes: Any) -> bytes:
    found = msgspec.msgpack.decode(content, type=Checkpoint)
    for key, value in changes.items():
        setattr(found.arrays[name], key, value)
    return msgspec.msgpack.encode(found)


def place(number: int) -> bytes:
    return np.array([number], dtype="<i8").tobytes()


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("up", {"dtype": "|O"}, "array of type"),
        ("up", {"dtype": "V1"}, "array of type"),
        ("up", {"dtype": "|S1"}, "array of type"),
        ("step", {"dtype": "<c8"}, "array of type"),
        ("step", {"dtype": ">i8"}, "array of type"),
        ("step", {"dtype": "<M8[s]"}, "array of type"),
        ("up", {"dtype": "nonsense"}, "array of type"),
        ("up", {"shape": [-8]}, "array of shape"),
        ("up", {"shape": [-2, -4]}, "array of shape"),
        ("up", {"shape": [9]}, "for 9 nodes"),
        ("up", {"shape": [1 << 62]}, f"array of {1 << 62} bytes"),
        ("up", {"shape": [(1 << 30) + 1], "n_nonzero": 0}, "array of 1073741825 bytes"),
        ("up", {"shape": [0, 1 << 63], "data": b""}, ""),
        ("up", {"shape": [1] * 100, "data": b"\1"}, ""),
        ("up", {"n_nonzero": 1}, "outside of an array of 8"),
        ("up", {"n_nonzero": -1}, "-1 values that are not zero"),
        ("up", {"n_nonzero": 9}, "9 values that are not zero, of 8"),
        ("up", {"n_nonzero": 1, "data": place(8) + b"\1"}, "outside of an array of 8"),
        ("up", {"n_nonzero": 1, "data": place(-1) + b"\1"}, "outside of an array of 8"),
        ("histogram", {"n_nonzero": None}, "bytes for 65536 values"),
        ("histogram", {"n_nonzero": 1, "data": place(0)}, "0 bytes for 1 values of 8"),
        ("step", {"shape": [2], "data": b"\0" * 16}, ""),
        ("step", {"dtype": "<f8", "data": np.float64(np.nan).tobytes()}, ""),
        ("step", {"dtype": "<f8", "data": np.float64(np.inf).tobytes()}, ""),
    ],
)
def test_array_that_is_not_what_it_says_is_refused(
    content: bytes, name: str, changes: Any, reason: str
):
    with pytest.raises(CheckpointMismatch, match="a state as this version writes it") as refused:
        decode(tampered(content, name, **changes), RUN_KEY)
    assert reason in str(refused.value)


@pytest.mark.parametrize("name", ["up", "step", "proposals.number", "head"])
def test_missing_array_is_refused(content: bytes, name: str):
    found = msgspec.msgpack.decode(content, type=Checkpoint)
    del found.arrays[name]
    with pytest.raises(CheckpointMismatch):
        decode(msgspec.msgpack.encode(found), RUN_KEY)


def test_unknown_array_of_a_table_is_refused(content: bytes):
    found = msgspec.msgpack.decode(content, type=Checkpoint)
    found.arrays["proposals.colour"] = found.arrays["proposals.number"]
    with pytest.raises(CheckpointMismatch):
        decode(msgspec.msgpack.encode(found), RUN_KEY)


def mutations(content: bytes) -> list[bytes]:
    """Return damaged copies: half of them damaged within the first 400 bytes."""
    rng = random.Random(0)
    ends = [len(content) if kind % 2 else min(400, len(content)) for kind in range(MUTATIONS)]
    return [damage(content, rng, kind, rng.randrange(end)) for kind, end in enumerate(ends)]


def test_damaged_bytes_give_a_state_or_a_mismatch_and_never_anything_else(content: bytes):
    refused = 0
    for damaged in mutations(content):
        try:
            assert isinstance(decode(damaged, RUN_KEY), State)
        except CheckpointMismatch:
            refused += 1
    assert refused > MUTATIONS / 2


def test_damaged_file_is_refused_whatever_the_damage(tmp_path: Path, content: bytes):
    folder = CheckpointFolder(tmp_path)
    stored = folder.write(content, run_key=RUN_KEY, step=10, epoch=1)
    path = tmp_path / stored.name
    damages = [damaged for damaged in mutations(content) if damaged != content]
    assert len(damages) > MUTATIONS * 0.9
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(CheckpointMismatch, match=f"expected SHA-256 {stored.sha256}"):
            folder.read(stored)
    path.write_bytes(content)
    assert folder.read(stored) == content


class Exploding:
    """Leaves a trace if it is ever unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


def test_pickles_are_refused_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
):
    monkeypatch.chdir(tmp_path)
    poison = pickle.dumps(Exploding())
    objects = np.array([Exploding()], dtype=object)
    objects.dump(tmp_path / "objects.npy")
    for bad in (poison, (tmp_path / "objects.npy").read_bytes()):
        with pytest.raises(CheckpointMismatch):
            decode(bad, RUN_KEY)
        with pytest.raises(CheckpointMismatch):
            decode(tampered(content, "up", dtype="|O", data=bad), RUN_KEY)
    assert not (tmp_path / "unpickled").exists()


# --- files --------------------------------------------------------------------------------


def test_file_is_written_whole_under_a_name_that_says_what_it_is(tmp_path: Path, content: bytes):
    folder = CheckpointFolder(tmp_path / "new" / "folder")
    stored = folder.write(content, run_key=RUN_KEY, step=10, epoch=3)
    assert stored.name == f"{RUN_KEY[:24]}-00000010-3.ckpt"
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert stored.n_bytes == len(content)
    assert [path.name for path in folder.folder.iterdir()] == [stored.name]
    assert folder.read(stored) == content
    folder.remove(stored.name)
    folder.remove(stored.name)
    with pytest.raises(CheckpointMismatch, match=f"expected {len(content)} bytes"):
        folder.read(stored)


def test_two_owners_never_write_the_same_file(tmp_path: Path):
    folder = CheckpointFolder(tmp_path)
    first = folder.write(b"one", run_key=RUN_KEY, step=4, epoch=1)
    second = folder.write(b"two", run_key=RUN_KEY, step=4, epoch=2)
    assert (folder.read(first), folder.read(second)) == (b"one", b"two")


@pytest.mark.parametrize("broken", ["fsync", "rename"])
def test_write_that_fails_leaves_the_old_file_and_no_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
):
    folder = CheckpointFolder(tmp_path)
    stored = folder.write(b"old", run_key=RUN_KEY, step=4, epoch=1)

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "rename")), fail)
        with pytest.raises(CheckpointUnwritten, match=r"No space left .* make room"):
            folder.write(b"new", run_key=RUN_KEY, step=4, epoch=1)
        with pytest.raises(CheckpointUnwritten, match=r"No space left .* make room"):
            folder.write(b"new", run_key=RUN_KEY, step=8, epoch=1)
    assert folder.read(stored) == b"old"
    assert [path.name for path in tmp_path.glob("*.ckpt")] == [stored.name]


def test_content_is_on_disk_before_its_name_and_the_name_before_it_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A reader after a crash finds the whole file under its name, or no such file."""
    calls: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(descriptor: int) -> None:
        is_folder = Path(f"/proc/self/fd/{descriptor}").is_dir()
        calls.append("fsync folder" if is_folder else "fsync file")
        fsync(descriptor)

    def watched_rename(self: Path, target: Any) -> Path:
        assert self.read_bytes() == b"content"
        calls.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    CheckpointFolder(tmp_path).write(b"content", run_key=RUN_KEY, step=4, epoch=1)
    CheckpointFolder(tmp_path).settle()
    assert calls == ["fsync file", "rename", "fsync folder"]

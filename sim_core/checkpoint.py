"""A run's state as bytes that are safe to read back, and as files that are never torn.

A checkpoint is MessagePack: plain numbers, text and raw arrays, no code. Its SHA-256 is kept in
the ledger; a file that differs from it is refused.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sim_core.errors import CheckpointMismatch, CheckpointUnwritten
from sim_core.faultpoints import reach
from sim_core.state import State

SCHEMA = 2
ALLOWED_DTYPES = frozenset(
    {"<f4", "<f8", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "|b1"}
)
LARGEST_ARRAY = 1 << 36
"""Bytes; a header that claims more is refused before memory is asked for."""


class PackedArray(msgspec.Struct):
    """One array: raw bytes, or zlib-compressed ones where most of it is zero."""

    dtype: str
    shape: list[int]
    data: bytes
    is_compressed: bool


class Checkpoint(msgspec.Struct):
    """The content of a checkpoint."""

    schema: int
    run_key: str
    step: int
    arrays: dict[str, PackedArray]


def encode(state: State, run_key: str) -> bytes:
    """Return a state as bytes."""
    arrays = {name: _pack(array) for name, array in state.to_arrays().items()}
    return msgspec.msgpack.encode(Checkpoint(SCHEMA, run_key, state.step, arrays))


def decode(content: bytes, run_key: str, *, source: Path | str = "in memory") -> State:
    """Return the state of the run with this key.

    Raises:
        CheckpointMismatch: the bytes are damaged, of another schema, or of another run.
    """
    try:
        found = msgspec.msgpack.decode(content, type=Checkpoint)
        if found.schema != SCHEMA:
            raise CheckpointMismatch(source, expected=f"schema {SCHEMA}", found=found.schema)
        if found.run_key != run_key:
            raise CheckpointMismatch(source, expected=f"run {run_key}", found=found.run_key)
        return State.from_arrays({name: _unpack(part) for name, part in found.arrays.items()})
    except (
        msgspec.DecodeError,
        zlib.error,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
    ) as error:
        raise CheckpointMismatch(
            source, expected="a state as this version writes it", found=repr(error)
        ) from error


def _pack(array: NDArray[Any]) -> PackedArray:
    array = np.asarray(array, order="C")  # ascontiguousarray would make numbers 1-dimensional
    sparse = array.nbytes > 4096 and bool(np.count_nonzero(array) * 4 < array.size)
    data = zlib.compress(array.data, 1) if sparse else array.tobytes()
    return PackedArray(array.dtype.str, list(array.shape), data, sparse)


def _unpack(part: PackedArray) -> NDArray[Any]:
    if part.dtype not in ALLOWED_DTYPES:
        raise ValueError(f"array of type {part.dtype!r}")
    dtype = np.dtype(part.dtype)
    n_bytes = dtype.itemsize
    for length in part.shape:
        if length < 0:
            raise ValueError(f"array of shape {part.shape}")
        n_bytes *= length
    if n_bytes > LARGEST_ARRAY:
        raise ValueError(f"array of {n_bytes} bytes")
    data = part.data
    if part.is_compressed:
        inflate = zlib.decompressobj()
        data = inflate.decompress(data, n_bytes + 1)
    if len(data) != n_bytes:
        raise ValueError(f"{len(data)} bytes for an array of {n_bytes}")
    return np.frombuffer(data, dtype=dtype).reshape(part.shape).copy()


@dataclass(frozen=True)
class Stored:
    """A checkpoint's file name and checksum, as the ledger keeps them."""

    name: str
    sha256: str
    n_bytes: int


@dataclass(frozen=True)
class CheckpointFolder:
    """Checkpoints as files."""

    folder: Path

    def write(self, content: bytes, *, run_key: str, step: int, epoch: int) -> Stored:
        """Write a checkpoint and return when a reader sees all of it or nothing.

        Temporary name, fsync, rename; `settle` makes the names survive a loss of power. The epoch
        in the name keeps two owners of a run from writing the same file.
        """
        name = f"{run_key[:24]}-{step:08d}-{epoch}.ckpt"
        temporary = self.folder / f".{name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            reach("checkpoint.open")
            with temporary.open("wb") as file:
                reach("checkpoint.write")
                file.write(content)
                file.flush()
                reach("checkpoint.fsync")
                os.fsync(file.fileno())
            reach("checkpoint.rename")
            temporary.rename(self.folder / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CheckpointUnwritten(self.folder / name, error) from error
        return Stored(name, hashlib.sha256(content).hexdigest(), len(content))

    def settle(self) -> None:
        """Return when the names of what was written would survive a loss of power."""
        reach("checkpoint.settle")
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, stored: Stored) -> bytes:
        """Return a checkpoint's bytes.

        Raises:
            CheckpointMismatch: the file is gone or is not what was written.
        """
        path = self.folder / stored.name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointMismatch(
                path, expected=f"{stored.n_bytes} bytes", found=error.strerror
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if found != stored.sha256:
            raise CheckpointMismatch(path, expected=f"SHA-256 {stored.sha256}", found=found)
        return content

    def remove(self, name: str) -> None:
        """Remove a checkpoint that is not needed any more."""
        (self.folder / name).unlink(missing_ok=True)

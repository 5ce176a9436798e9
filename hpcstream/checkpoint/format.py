"""The file that one rank writes for one checkpoint: HDF5, checked to the last byte.

::

    /0/2            attributes of operator 2 of task 0: "id", "role", ...
    /0/2/keys       one dataset an array; the attribute "crc32" has a checksum for each 64 KiB
    /0/2/rows

HDF5 keeps names, types and offsets; the arrays themselves are written straight
into the file at those offsets, five times as fast as through the library and
without holding Python's global lock. So a file has two kinds of bytes: the
arrays, each block of them with a checksum, and the structure around them, with
one digest, which the checkpoint's manifest holds.
"""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.errors import HpcstreamError

FORMAT_VERSION = 5
_VERSION = "hpcstream_format"
_CHECKSUM = "crc32"
BLOCK_BYTES = 1 << 16
"""Each block of so many bytes of an array has its own checksum, so that parts can be read."""

_PART_BLOCKS = 16  # read at once: they stay in the cache while they are checked and copied

Array = npt.NDArray[Any]
Ranges = list[tuple[int, int, int]]
"""Ranges of entries: first entry, first entry of the copy, number of entries."""
Run = tuple[int, int, int]


class CheckpointError(HpcstreamError):
    """A checkpoint cannot be written, read, or restored; the message says which and why."""


class DamagedCheckpoint(CheckpointError):
    """A file of a checkpoint is missing, truncated, or not what was written."""


@dataclass(frozen=True)
class Section:
    """The arrays of one operator, with attributes (text or numbers).

    Attributes
    ----------
    path : str
        Group in the file, as in ``"0/2"``.
    """

    path: str
    arrays: Mapping[str, Array]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WrittenFile:
    """What the manifest holds of a file: enough to check that it is whole.

    Attributes
    ----------
    name : str
    n_bytes : int
    digest : str
        Of the structure: all bytes but those of the arrays.
    ranges : sequence of (int, int)
        Place and length of each array, in the order of the file.
    """

    name: str
    n_bytes: int
    digest: str
    ranges: Sequence[Sequence[int]] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "name": self.name,
            "bytes": self.n_bytes,
            "digest": self.digest,
            "ranges": [list(extent) for extent in self.ranges],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WrittenFile:
        """Return what `to_json` wrote."""
        return cls(value["name"], value["bytes"], value["digest"], value["ranges"])


def load_hdf5() -> None:
    """Load the HDF5 library, which takes a while, before rounds would wait for it."""
    import h5py  # noqa: F401


def write_file(path: str, sections: Sequence[Section]) -> WrittenFile:
    """Write sections to a new file, durably: hidden name, fsync, rename.

    The directory entry is made durable by the caller (`sync_directory`).
    """
    beside = f"{path}.tmp"
    try:
        offsets = _write_structure(beside, sections)
    except (OSError, RuntimeError):
        _raise_cause(beside, sections)
        raise
    descriptor = os.open(beside, os.O_RDWR)
    try:
        for array, offset in offsets:
            _write_at(descriptor, array, offset)
        ranges = sorted([offset, array.nbytes] for array, offset in offsets)
        n_bytes = os.fstat(descriptor).st_size
        digest = _structure_digest(descriptor, ranges, n_bytes)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(beside, path)
    return WrittenFile(os.path.basename(path), n_bytes, digest, ranges)


def _write_structure(path: str, sections: Sequence[Section]) -> list[tuple[Array, int]]:
    """Write everything but the arrays; return each array with its offset in the file."""
    import h5py

    created: list[tuple[Array, Any]] = []
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs[_VERSION] = FORMAT_VERSION
        datasets = _Datasets(h5py)
        for section in sections:
            group = file.create_group(section.path)
            for name, value in section.attributes.items():
                group.attrs[name] = value
            for name, given in section.arrays.items():
                array = np.asarray(given, order="C")
                dataset = datasets.create(group, name, array)
                if array.nbytes:
                    created.append((array, dataset))
        file.flush()
        return [(array, dataset_id.get_offset()) for array, dataset_id in created]


def _raise_cause(path: str, sections: Sequence[Section]) -> None:
    """Raise the system's error for a file that HDF5 could not write: HDF5 does not pass it on."""
    n_bytes = sum(array.nbytes for section in sections for array in section.arrays.values())
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.posix_fallocate(descriptor, 0, n_bytes + 4096)
    finally:
        os.close(descriptor)


class _Datasets:
    """Creates datasets: contiguous, each with a checksum, at offsets that are fixed at once.

    The calls of HDF5 that all of them share are made once; it holds Python's global lock
    meanwhile, so each call saved is one that rounds do not wait for.
    """

    def __init__(self, h5py: Any) -> None:
        self._h5py = h5py
        self._creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        self._creation.set_layout(h5py.h5d.CONTIGUOUS)
        self._creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        self._creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        self._links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        self._links.set_create_intermediate_group(True)
        self._links.set_char_encoding(h5py.h5t.CSET_UTF8)
        self._kinds: dict[np.dtype[Any], Any] = {}

    def create(self, group: Any, name: str, array: Array) -> Any:
        """Create a dataset for an array, with its checksum; return its id."""
        h5py = self._h5py
        if array.dtype.hasobject:
            raise TypeError(f"{group.name}/{name}: a snapshot holds numbers, not {array.dtype}")
        kind = self._kinds.get(array.dtype)
        if kind is None:
            kind = self._kinds[array.dtype] = h5py.h5t.py_create(array.dtype, logical=True)
        space = h5py.h5s.create_simple(array.shape)
        path = escaped(name).encode()
        dataset = h5py.h5d.create(group.id, path, kind, space, self._creation, self._links)
        # In one step; `Dataset.attrs` writes another attribute first, and renames it.
        found = checksums(array)
        shape = h5py.h5s.create_simple(found.shape)
        attribute = h5py.h5a.create(dataset, _CHECKSUM.encode(), h5py.h5t.STD_U32LE, shape)
        attribute.write(found)
        return dataset


def escaped(name: str) -> str:
    """Return the name of an array in the file: a ``/`` would begin a group."""
    return name.replace("%", "%25").replace("/", "%2F")


def unescaped(name: str) -> str:
    """Return the name that `escaped` got."""
    return name.replace("%2F", "/").replace("%25", "%")


def checksums(array: Array) -> npt.NDArray[np.uint32]:
    """Return the CRC-32 of each block of an array's bytes."""
    data = _bytes(array)
    blocks = range(0, max(len(data), 1), BLOCK_BYTES)
    found = [zlib.crc32(data[start : start + BLOCK_BYTES]) for start in blocks]
    return np.array(found, dtype=np.uint32)


def bytes_of_entry(array: Array) -> int:
    """Return the bytes of an entry of an array, which may be a row of several values."""
    return array.itemsize * math.prod(array.shape[1:])


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _write_at(descriptor: int, array: Array, offset: int) -> None:
    data = _bytes(array)
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def _structure_digest(descriptor: int, ranges: Sequence[Sequence[int]], n_bytes: int) -> str:
    """Return the digest of all bytes outside of ``ranges``."""
    digest = hashlib.sha256()
    position = 0
    for start, length in [*ranges, (n_bytes, 0)]:
        while position < start:
            part = os.pread(descriptor, min(start - position, 1 << 20), position)
            if not part:
                break
            digest.update(part)
            position += len(part)
        position = max(position, start + length)
    return digest.hexdigest()


class CheckpointFile:
    """One rank's file of a checkpoint, checked before any of it is used.

    A context manager. The structure is checked when it is opened, an array when it is read.

    Parameters
    ----------
    path : str
    expected : WrittenFile
        What the manifest says of it.

    Raises
    ------
    DamagedCheckpoint
        It is not there, or not what was written.
    """

    def __init__(self, path: str, expected: WrittenFile) -> None:
        import h5py

        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DamagedCheckpoint(f"{path}: {error.strerror}") from error
        try:
            self._check_structure(expected)
            self._file = _open_hdf5(h5py, path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> CheckpointFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        os.close(self._descriptor)

    def _check_structure(self, expected: WrittenFile) -> None:
        """Compare the file with the manifest before HDF5 reads it."""
        found = os.fstat(self._descriptor).st_size
        if found != expected.n_bytes:
            raise DamagedCheckpoint(f"{self.path}: {found} bytes, but {expected.n_bytes} written")
        digest = _structure_digest(self._descriptor, expected.ranges, expected.n_bytes)
        if digest != expected.digest:
            raise DamagedCheckpoint(f"{self.path}: its structure is not what was written")

    def _datasets(self) -> Iterator[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []

        def visit(name: str, item: Any) -> None:
            if hasattr(item, "nbytes"):
                found.append((name, item))

        self._file.visititems(visit)
        return iter(found)

    def names(self, path: str) -> list[str]:
        """Return the names of the arrays of a section; none if the file has no such section."""
        if path not in self._file:
            return []
        items = self._file[path].items()
        return [unescaped(name) for name, item in items if hasattr(item, "nbytes")]

    def array(self, path: str, name: str) -> Array:
        """Return an array of a section."""
        dataset = self._dataset(f"{path}/{escaped(name)}")
        array: Array = np.empty(dataset.shape, dtype=dataset.dtype)
        self._copy(dataset, array, [(0, 0, len(array) if array.ndim else 1)])
        return array

    def arrays(self, path: str) -> dict[str, Array]:
        """Return all arrays of a section."""
        return {name: self.array(path, name) for name in self.names(path)}

    def check(self) -> int:
        """Read every array; return their bytes. Raises `DamagedCheckpoint`."""
        found: list[Any] = []

        def visit(name: str, item: Any) -> None:
            if hasattr(item, "nbytes"):
                found.append(item)

        self._file.visititems(visit)
        for dataset in found:
            for _ in self._parts(dataset, [(0, 0, dataset.nbytes)]):
                pass
        return sum(dataset.nbytes for dataset in found)

    def empty(self, path: str, name: str, n_entries: int) -> Array:
        """Return an uninitialized array for so many entries of an array of a section."""
        dataset = self._dataset(f"{path}/{escaped(name)}")
        return np.empty((n_entries, *dataset.shape[1:]), dtype=dataset.dtype)

    def copy(self, path: str, name: str, out: Array, ranges: Ranges) -> None:
        """Copy entries of an array; reads and checks only the blocks that hold them.

        Parameters
        ----------
        path, name : str
        out : array
        ranges : list of (int, int, int)
            First entry, first entry in ``out``, number of entries.
        """
        dataset = self._dataset(f"{path}/{escaped(name)}")
        if (dataset.dtype, dataset.shape[1:]) != (out.dtype, out.shape[1:]):
            raise DamagedCheckpoint(f"{self.path}: {path}/{name} is not what other files say of it")
        if any(first + n > dataset.shape[0] for first, _, n in ranges):
            raise DamagedCheckpoint(f"{self.path}: {path}/{name} is shorter than other files say")
        self._copy(dataset, out, ranges)

    def _dataset(self, name: str) -> Any:
        if name not in self._file:
            raise DamagedCheckpoint(f"{self.path}: {name} is missing")
        return self._file[name]

    def _copy(self, dataset: Any, out: Array, ranges: Ranges) -> None:
        n_bytes, target = bytes_of_entry(out), _bytes(out)
        runs = [(first * n_bytes, at * n_bytes, n * n_bytes) for first, at, n in sorted(ranges)]
        left = deque(run for run in runs if run[2])
        for offset, part in self._parts(dataset, left):
            while left and left[0][0] < offset + len(part):
                first, at, size = left.popleft()
                here = min(size, offset + len(part) - first)
                target[at : at + here] = part[first - offset : first - offset + here]
                if here < size:
                    left.appendleft((first + here, at + here, size - here))
                    break

    def _parts(self, dataset: Any, runs: Iterable[Run]) -> Iterator[tuple[int, memoryview]]:
        """Yield the blocks that hold runs of bytes, checked, several at a time.

        All parts use the same buffer.
        """
        sums = dataset.attrs[_CHECKSUM]
        start, buffer = dataset.id.get_offset(), memoryview(bytearray(_PART_BLOCKS * BLOCK_BYTES))
        for first, stop in _parts_of_blocks(list(runs)):
            at = first * BLOCK_BYTES
            part = buffer[: min(stop * BLOCK_BYTES, dataset.nbytes) - at]
            if os.preadv(self._descriptor, [part], start + at) != len(part):
                raise DamagedCheckpoint(f"{self.path}: {dataset.name} is cut short")
            for block in range(first, stop):
                here = part[(block - first) * BLOCK_BYTES : (block + 1 - first) * BLOCK_BYTES]
                if zlib.crc32(here) != sums[block]:
                    raise DamagedCheckpoint(f"{self.path}: {dataset.name} is not what was written")
            yield at, part


def _parts_of_blocks(runs: Iterable[Run]) -> Iterator[tuple[int, int]]:
    """Yield ranges of a few blocks that together hold ascending runs; no block twice."""
    done = 0
    for offset, _, size in runs:
        first, stop = max(done, offset // BLOCK_BYTES), -(-(offset + size) // BLOCK_BYTES)
        for begin in range(first, stop, _PART_BLOCKS):
            yield begin, min(begin + _PART_BLOCKS, stop)
        done = max(done, stop)


def _open_hdf5(h5py: Any, path: str) -> Any:
    try:
        file = h5py.File(path, "r", locking=False)
        version = int(file.attrs[_VERSION])
    except Exception as error:  # HDF5 raises errors of many types
        raise DamagedCheckpoint(f"{path}: {error}") from error
    if version != FORMAT_VERSION:
        file.close()
        raise CheckpointError(
            f"{path}: written in format {version}; this version reads {FORMAT_VERSION}"
        )
    return file


def sync_directory(directory: str) -> None:
    """Make renames in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

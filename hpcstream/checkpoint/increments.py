"""Incremental checkpoints: segments of the state that have not changed are not written again.

::

    slice 7   12,000 entries   ckpt-000040/rank-00001.h5   from entry 0
    slice 8   11,500 entries   ckpt-000041/rank-00001.h5   from entry 0
    slice 9      800 entries   the file of this checkpoint from entry 0

A checkpoint refers to complete checkpoints only. It drops the files that hold most unneeded
bytes, so that all files together are at most about twice the state. Once there are many files,
the needed segments of the smaller half are written into one: a restart reads a bounded number
of files, and the bytes written follow the bytes changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from hpcstream.checkpoint.format import Array, WrittenFile, bytes_of_entry
from hpcstream.state.table import Segment, StateTable

MOST_FILES = 16
"""Most files that a checkpoint of one rank refers to."""

SPARE_BYTES = 16 << 20
"""Bytes that files may hold beside twice the state: small files have more structure than state."""

OWN = ""
"""Stands for the checkpoint's own file instead of a name."""


Finish = Callable[[], Mapping[str, Array]]
"""Makes arrays in the background."""


@dataclass(frozen=True)
class StoredSegment:
    """Where a segment is: ``n_entries`` from ``first`` on in the arrays of a file."""

    name: str
    version: str
    file: str
    first: int
    n_entries: int


@dataclass(frozen=True)
class SegmentTable:
    """The segments of one table of an operator, in their order.

    Attributes
    ----------
    name : str
    arrays : list of str
        Names of the arrays that are cut into segments.
    segments : list of StoredSegment
    index : str
        Array with the key group of every ``stride``-th entry of a file whose entries are ordered
        by key group; empty: they are not.
    stride : int
    entry_bytes : int
        Of all arrays together, without the array of original indices; not in the file.
    """

    name: str
    arrays: Sequence[str]
    segments: Sequence[StoredSegment]
    index: str = ""
    stride: int = 0
    entry_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        rows = [[s.name, s.version, s.file, s.first, s.n_entries] for s in self.segments]
        found = {"name": self.name, "arrays": list(self.arrays), "segments": rows}
        return found | ({"index": self.index, "stride": self.stride} if self.index else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SegmentTable:
        """Return what `to_json` wrote."""
        return cls(**{**value, "segments": [StoredSegment(*row) for row in value["segments"]]})

    @property
    def n_bytes(self) -> int:
        """Bytes of all its entries, in whatever file."""
        return self.entry_bytes * sum(segment.n_entries for segment in self.segments)

    def files(self) -> list[str]:
        """Return the files of earlier checkpoints that hold segments."""
        return sorted({segment.file for segment in self.segments} - {OWN})


class CopiedState(NamedTuple):
    """What is to be written of the state of an operator.

    Attributes
    ----------
    arrays : dict of str to array
    finishes : list of callable
        Called in the background: the arrays they return replace others, or are written beside them.
    tables : list of SegmentTable
        Where the segments of all tables will be.
    n_bytes : int
        Of the whole state.
    """

    arrays: dict[str, Array]
    finishes: list[Finish]
    tables: list[SegmentTable]
    n_bytes: int


def files_of(tables: Iterable[SegmentTable]) -> list[str]:
    """Return the files of earlier checkpoints that any of the tables refers to."""
    return sorted({name for table in tables for name in table.files()})


def is_known(segment: Segment, known: Mapping[str, StoredSegment]) -> bool:
    """Whether a segment is among known ones, by name, as it is now: with the same ``version``."""
    return segment.name in known and known[segment.name].version == segment.version


def copy_state(tables: Sequence[StateTable], known: Known) -> CopiedState:
    """Copy the head of each table, and its segments that are not known."""
    copied = CopiedState({}, [], [], 0)
    n_bytes = 0
    for table in tables:
        head = table.head()
        assert not head.keys() & copied.arrays.keys(), f"two tables have {[*head]}"
        copied.arrays.update(head)
        n_bytes += sum(array.nbytes for array in head.values())
        stored = _copy_segments(table, known.get(table.name, {}), copied)
        if stored is not None:
            copied.tables.append(stored)
            n_bytes += stored.n_bytes
    return copied._replace(n_bytes=n_bytes)


def _copy_segments(
    table: StateTable, known: Mapping[str, StoredSegment], copied: CopiedState
) -> SegmentTable | None:
    """Copy the unknown segments; return where all of them will be, None if there are none."""
    fresh, stored, n_fresh = [], [], 0
    for index, segment in enumerate(table.segments()):
        if is_known(segment, known):
            stored.append(known[segment.name])
            continue
        stored.append(StoredSegment(segment.name, segment.version, OWN, n_fresh, segment.n_entries))
        n_fresh += segment.n_entries
        fresh.append(index)
    fresh_copy = table.copy(np.array(fresh, dtype=np.int64))
    if not fresh_copy.arrays:
        return None
    copied.arrays.update(fresh_copy.arrays)
    if fresh_copy.finish is not None:
        copied.finishes.append(fresh_copy.finish)
    names, order = list(fresh_copy.arrays), table.order
    entry_bytes = sum(bytes_of_entry(array) for array in fresh_copy.arrays.values())
    if order is None:
        return SegmentTable(table.name, names, stored, entry_bytes=entry_bytes)
    if order.positions:
        names.append(order.positions)
    return SegmentTable(table.name, names, stored, order.groups, order.stride, entry_bytes)


Known = Mapping[str, Mapping[str, StoredSegment]]
"""Segments of an operator that need not be written again: by table, by name."""


class SegmentMemory:
    """The segments that the newest complete checkpoint of this run has on this rank."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._files: dict[str, WrittenFile] = {}

    def forget(self) -> None:
        """Refer to nothing: the next checkpoint writes everything."""
        self._known, self._files = {}, {}

    def known(self, path: str) -> Known:
        """Return the segments of an operator that need not be written again."""
        return self._known.get(path, {})

    def files_of(self, tables: Iterable[SegmentTable]) -> dict[str, WrittenFile]:
        """Return the files of earlier checkpoints that tables refer to."""
        return {name: self._files[name] for name in files_of(tables)}

    def complete(
        self,
        tables: Mapping[str, Sequence[SegmentTable]],
        shared: Mapping[str, WrittenFile],
        name: str,
        file: WrittenFile,
    ) -> None:
        """Remember a complete checkpoint; ``name`` is the path of this rank's file."""
        files = {**shared, name: file}
        needed = _needed_bytes(tables.values(), name)
        kept = _kept(needed, {path: written.n_bytes for path, written in files.items()})
        self._files = {path: files[path] for path in kept}
        self._known = {
            path: {table.name: _known_of(table, name, kept) for table in own}
            for path, own in tables.items()
        }


def _known_of(table: SegmentTable, name: str, kept: set[str]) -> dict[str, StoredSegment]:
    """Return the segments of a table that are in files that are kept."""
    return {
        segment.name: replace(segment, file=segment.file or name)
        for segment in table.segments
        if (segment.file or name) in kept
    }


def _needed_bytes(operators: Iterable[Sequence[SegmentTable]], name: str) -> dict[str, int]:
    """Return the needed bytes of each file; ``name`` is the path of this rank's own."""
    needed: dict[str, int] = {}
    for tables in operators:
        for table in tables:
            for segment in table.segments:
                n_bytes = segment.n_entries * table.entry_bytes
                path = segment.file or name
                needed[path] = needed.get(path, 0) + n_bytes
    return needed


def _kept(needed: Mapping[str, int], sizes: Mapping[str, int]) -> set[str]:
    """Return the files to refer to.

    The files with the greatest needed share come first, up to twice the state in all. If they
    are many, only the half with most of the state is kept: the state of the others goes into one
    file. So files grow by tiers, and state is written again only while its file is small.
    """
    room = 2 * sum(needed.values()) + SPARE_BYTES
    kept = []
    for path in sorted(needed, key=lambda path: -needed[path] / sizes[path]):
        if sizes[path] <= room:
            room -= sizes[path]
            kept.append(path)
    if len(kept) > MOST_FILES:
        kept = sorted(kept, key=lambda path: -needed[path])[: MOST_FILES // 2]
    return set(kept)

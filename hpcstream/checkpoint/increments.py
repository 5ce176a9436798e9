"""Which segments of the state are in which file: what has not changed is not written again.

::

    slice 7   12,000 entries   ckpt-000040/rank-00001.h5   from entry 0
    slice 8   11,500 entries   ckpt-000041/rank-00001.h5   from entry 0
    slice 9      800 entries   the file of this checkpoint from entry 0

Only checkpoints that are complete are referred to. The files with most that nobody
needs are not referred to any more, so that all together are at most about twice the state.
Once there are many, what is needed of the smaller half goes into one: a restart reads
a bounded number of files, and what is written follows what has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from hpcstream.checkpoint.format import Array, WrittenFile, bytes_of_entry
from hpcstream.state.table import Segment, StateTable

MOST_FILES = 16
"""Files that a checkpoint of one rank refers to, at most."""

SPARE_BYTES = 16 << 20
"""Files may hold so much, beside twice the state: small ones have more structure than state."""

OWN = ""
"""The file of the checkpoint itself, in place of a name."""


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
        Array with the key group of every ``stride``-th entry of a file, which lie in the order
        of key groups; empty: they do not.
    stride : int
    entry_bytes : int
        Of all arrays together, but the places of entries; not in the file.
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


class Taken(NamedTuple):
    """What is to be written of the state of an operator.

    Attributes
    ----------
    arrays : dict of str to array
    finishes : list of callable
        To be called in the background: what they return replaces arrays, or is written besides.
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


def take(tables: Sequence[StateTable], known: Known) -> Taken:
    """Copy the head of tables, and their segments that are not known."""
    taken = Taken({}, [], [], 0)
    n_bytes = 0
    for table in tables:
        head = table.head()
        assert not head.keys() & taken.arrays.keys(), f"two tables have {[*head]}"
        taken.arrays.update(head)
        n_bytes += sum(array.nbytes for array in head.values())
        stored = _take_segments(table, known.get(table.name, {}), taken)
        if stored is not None:
            taken.tables.append(stored)
            n_bytes += stored.n_bytes
    return taken._replace(n_bytes=n_bytes)


def _take_segments(
    table: StateTable, known: Mapping[str, StoredSegment], taken: Taken
) -> SegmentTable | None:
    """Copy the segments that are not known; return where all will be, None if there are none."""
    fresh, stored, n_fresh = [], [], 0
    for index, segment in enumerate(table.segments()):
        if is_known(segment, known):
            stored.append(known[segment.name])
            continue
        stored.append(StoredSegment(segment.name, segment.version, OWN, n_fresh, segment.n_entries))
        n_fresh += segment.n_entries
        fresh.append(index)
    copied = table.copy(np.array(fresh, dtype=np.int64))
    if not copied.arrays:
        return None
    taken.arrays.update(copied.arrays)
    if copied.finish is not None:
        taken.finishes.append(copied.finish)
    names, order = list(copied.arrays), table.order
    entry_bytes = sum(bytes_of_entry(array) for array in copied.arrays.values())
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
        """Remember a checkpoint that is complete; ``name`` is that of this rank's file."""
        files = {**shared, name: file}
        needed = _needed_bytes(tables.values(), name)
        kept = _kept(needed, {place: one.n_bytes for place, one in files.items()})
        self._files = {place: files[place] for place in kept}
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
    """Return for each file the bytes of state in it; ``name`` is that of the own one."""
    needed: dict[str, int] = {}
    for tables in operators:
        for table in tables:
            for segment in table.segments:
                n_bytes = segment.n_entries * table.entry_bytes
                place = segment.file or name
                needed[place] = needed.get(place, 0) + n_bytes
    return needed


def _kept(needed: Mapping[str, int], sizes: Mapping[str, int]) -> set[str]:
    """Return the files to refer to.

    The fullest first, as long as all together are at most twice the state. If they are many,
    the half with most of the state: the others go into one, so files grow by tiers, and state
    is written again only while its file is among the smaller ones.
    """
    room = 2 * sum(needed.values()) + SPARE_BYTES
    kept = []
    for place in sorted(needed, key=lambda place: -needed[place] / sizes[place]):
        if sizes[place] <= room:
            room -= sizes[place]
            kept.append(place)
    if len(kept) > MOST_FILES:
        kept = sorted(kept, key=lambda place: -needed[place])[: MOST_FILES // 2]
    return set(kept)

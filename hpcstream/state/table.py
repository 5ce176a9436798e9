"""State as tables: operators declare and use them; checkpoints copy, restore and deal them.

::

    operator.tables() ──> head()                  small arrays, written each time
                     ├──> segments(), copy(...)   large ones, in parts that change seldom
                     │       └──> finish()        what can wait for the background
                     ├──> restore(arrays)         as many ranks, same plan: bit for bit
                     └──> merge(parts, owned)     else: what one instance owns of all parts

A segment whose name and version are known is in an earlier file: it is neither copied nor
written again. The entries of a segment may be written in the order of their key groups:
an instance then reads those of its own groups only (`Order`).
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hpcstream.columns.ownership import Ownership
from hpcstream.state.arrays import Arrays, Ints

Snapshot = Mapping[str, np.ndarray]
"""The state of an operator: named arrays, one HDF5 dataset each. Bytes as uint8."""


class Segment(NamedTuple):
    """Entries of a table that change seldom: those of a slice.

    Attributes
    ----------
    name : str
        Unique in the table, now and later.
    version : str
        As long as it is the same, so are the entries.
    n_entries : int
    """

    name: str
    version: str
    n_entries: int


@dataclass(frozen=True)
class Order:
    """Entries of each segment are written in the order of key groups.

    Attributes
    ----------
    places : str
        Array with the place that each entry had in its segment (uint32), or empty: it is of
        no use.
    groups : str
        Array with the key group of every entry whose number in the file is a multiple of
        ``stride`` (uint16).
    stride : int
    """

    places: str
    groups: str
    stride: int


class TableCopy(NamedTuple):
    """Copies of some segments, one after the other.

    Attributes
    ----------
    arrays : dict of str to array
        One value for each entry; empty ones of the right type if `finish` makes them.
    finish : callable, optional
        Called in the background, while the operator goes on: returns the arrays to write
        instead of these, and besides.
    """

    arrays: dict[str, npt.NDArray[Any]]
    finish: Callable[[], Mapping[str, npt.NDArray[Any]]] | None = None


class Part(NamedTuple):
    """What one instance of an operator, or of a stage of it, had in a checkpoint.

    Attributes
    ----------
    is_local : bool
        It was the local stage of two.
    arrays : mapping of str to array
        Of all tables. Of those that are in the order of key groups, entries of the owned
        groups, and a few more; none for an instance of a local stage.
    """

    is_local: bool
    arrays: Arrays


class StateTable(ABC):
    """One table of the state of an operator.

    Attributes
    ----------
    name : str
        Unique in the operator.
    order : Order or None
        The order in which the entries of segments are written; None: as they lie.
    is_copied : bool
        Whether `copy` copies anything before rounds go on.
    """

    name: str
    order: Order | None = None
    is_copied: bool = True

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for it."""
        return 0

    def head(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that are not in segments; nothing changes them later."""
        return {}

    def segments(self) -> Sequence[Segment]:
        """Return the segments, in the order in which they make up the table."""
        return ()

    def copy(self, indices: Ints) -> TableCopy:
        """Return copies of some segments. The operator stands still meanwhile."""
        return TableCopy({})

    def restore(self, arrays: Arrays) -> None:
        """Take over the arrays of one instance: the state is the same to the bit."""
        raise NotImplementedError

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Take over what an instance owns of the arrays of all instances."""
        raise NotImplementedError


def counts_name(table: str) -> str:
    """Return the name of the array, made when a table is read, with the entries of segments."""
    return f"{table}:counts"


def firsts_name(table: str) -> str:
    """Return the name of the array, made likewise, with the first entry that was read of each."""
    return f"{table}:firsts"


def snapshot(tables: Sequence[StateTable]) -> dict[str, npt.NDArray[Any]]:
    """Return all arrays of some tables, as a restart finds them."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for table in tables:
        segments = table.segments()
        copied = table.copy(np.arange(len(segments)))
        arrays |= table.head() | copied.arrays
        if copied.finish is not None:
            arrays |= copied.finish()
        if copied.arrays:
            counts = [segment.n_entries for segment in segments]
            arrays[counts_name(table.name)] = np.array(counts, dtype=np.int64)
            arrays[firsts_name(table.name)] = np.zeros(len(counts), dtype=np.int64)
    return arrays


def restore(tables: Sequence[StateTable], arrays: Arrays) -> None:
    """Give tables what `snapshot` returned."""
    for table in tables:
        table.restore(arrays)


def merge(tables: Sequence[StateTable], parts: Sequence[Part], owned: Ownership) -> None:
    """Give tables what an instance owns of the snapshots of all instances."""
    for table in tables:
        table.merge(parts, owned)


class HandedOn(StateTable):
    """A table of a local stage: on other ranks its entries are as if they had been sent."""

    def __init__(self, table: StateTable) -> None:
        self._table = table
        self.name, self.order, self.is_copied = table.name, table.order, table.is_copied

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for it."""
        return self._table.n_bytes

    def head(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that are not in segments."""
        return self._table.head()

    def segments(self) -> Sequence[Segment]:
        """Return the segments."""
        return self._table.segments()

    def copy(self, indices: Ints) -> TableCopy:
        """Return copies of some segments."""
        return self._table.copy(indices)

    def restore(self, arrays: Arrays) -> None:
        """Take over the arrays of one instance."""
        self._table.restore(arrays)

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Begin without entries: the final stage takes them over."""


class Dealt(HandedOn):
    """A table of a local stage whose entries may be on any rank: parts are dealt, whole."""

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Take over every ``n_instances``-th part of the local stage."""
        local = [part for part in parts if part.is_local]
        self._table.merge(local[owned.instance :: owned.n_instances], Ownership(0, 1))


class OfFinalStage(HandedOn):
    """A table of a final stage that takes over nothing of local ones."""

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Take over what an instance owns of the parts of the final stage."""
        self._table.merge([part for part in parts if not part.is_local], owned)

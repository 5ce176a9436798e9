"""State as tables: operators declare and use them; checkpoints copy, restore and deal them.

::

    operator.tables() ──> head()                  small arrays, written each time
                     ├──> segments(), copy(...)   large ones, in parts that change seldom
                     │       └──> finish()        work that the background thread does
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
    """Entries of a table that change seldom, such as those of a slice.

    Attributes
    ----------
    name : str
        Unique in the table, also over time.
    version : str
        Changes whenever the entries change.
    n_entries : int
    """

    name: str
    version: str
    n_entries: int


@dataclass(frozen=True)
class Order:
    """The order in which the entries of each segment are written: by key group.

    Attributes
    ----------
    positions : str
        Array with the original position of each entry in its segment (uint32); empty if
        the table does not need it.
    groups : str
        Array with the key group of every entry whose number in the file is a multiple of
        ``stride`` (uint16).
    stride : int
    """

    positions: str
    groups: str
    stride: int


class TableCopy(NamedTuple):
    """Copies of some segments, one after the other.

    Attributes
    ----------
    arrays : dict of str to array
        One value for each entry; empty arrays of the right type if `finish` returns them.
    finish : callable, optional
        Called in the background while the operator continues: returns arrays to write
        instead of these, and additional ones.
    """

    arrays: dict[str, npt.NDArray[Any]]
    finish: Callable[[], Mapping[str, npt.NDArray[Any]]] | None = None


class Part(NamedTuple):
    """The state of one instance of an operator, or of one of its stages, in a checkpoint.

    Attributes
    ----------
    is_local : bool
        Whether it is of the local stage.
    arrays : mapping of str to array
        Of all tables. Tables in the order of key groups have the entries of the owned
        groups and a few more; an instance of a local stage has none.
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
        The order in which the entries of segments are written; None: unchanged.
    is_copied : bool
        Whether `copy` copies anything before the rounds continue.
    """

    name: str
    order: Order | None = None
    is_copied: bool = True

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for the table."""
        return 0

    def head(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that are not in segments; they are not changed later."""
        return {}

    def segments(self) -> Sequence[Segment]:
        """Return the segments, in the order in which they make up the table."""
        return ()

    def copy(self, indices: Ints) -> TableCopy:
        """Return copies of some segments. The operator does not run meanwhile."""
        return TableCopy({})

    def restore(self, arrays: Arrays) -> None:
        """Restore the arrays of one instance: the state is bit-identical."""
        raise NotImplementedError

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Restore the entries that an instance owns from the arrays of all instances."""
        raise NotImplementedError


def counts_name(table: str) -> str:
    """Return the name of the array, made by the reader, with the number of entries of segments."""
    return f"{table}:counts"


def firsts_name(table: str) -> str:
    """Return the name of the array, made by the reader, with the first entry read of each."""
    return f"{table}:firsts"


def snapshot(tables: Sequence[StateTable]) -> dict[str, npt.NDArray[Any]]:
    """Return all arrays of some tables, as a restart reads them."""
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
    """Restore tables from what `snapshot` returned."""
    for table in tables:
        table.restore(arrays)


def merge(tables: Sequence[StateTable], parts: Sequence[Part], owned: Ownership) -> None:
    """Restore the entries of tables that an instance owns from the snapshots of all instances."""
    for table in tables:
        table.merge(parts, owned)


class HandedOn(StateTable):
    """A table of a local stage; on another number of ranks the final stage restores its entries."""

    def __init__(self, table: StateTable) -> None:
        self._table = table
        self.name, self.order, self.is_copied = table.name, table.order, table.is_copied

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for the table."""
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
        """Restore the arrays of one instance."""
        self._table.restore(arrays)

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Start without entries: the final stage restores them."""


class Dealt(HandedOn):
    """A table of a local stage whose entries may be on any rank: whole parts are assigned."""

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Restore every ``n_instances``-th part of the local stage."""
        local = [part for part in parts if part.is_local]
        self._table.merge(local[owned.instance :: owned.n_instances], Ownership(0, 1))


class OfFinalStage(HandedOn):
    """A table of a final stage that restores nothing from local stages."""

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Restore the entries that an instance owns from the parts of the final stage."""
        self._table.merge([part for part in parts if not part.is_local], owned)

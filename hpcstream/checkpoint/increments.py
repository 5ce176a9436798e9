"""Which pieces of the state are in which file: what has not changed is not written again.

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
from typing import Any

import numpy as np

from hpcstream.checkpoint.format import Array, Places, WrittenFile
from hpcstream.state.snapshots import Piece, PieceGroup, PiecewiseSnapshot, Snapshot

MOST_FILES = 16
"""Files that a checkpoint of one rank refers to, at most."""

SPARE_BYTES = 16 << 20
"""Files may hold so much, beside twice the state: small ones have more structure than state."""

OWN = ""
"""The file of the checkpoint itself, in place of a name."""


@dataclass(frozen=True)
class StoredPiece:
    """Where a piece is: ``n_entries`` from ``first`` on in the arrays of a file."""

    name: str
    version: str
    file: str
    first: int
    n_entries: int


@dataclass(frozen=True)
class Table:
    """The pieces of one group of an operator, in the order of its snapshot.

    Attributes
    ----------
    arrays : list of str
        Names of the arrays that are cut into pieces.
    pieces : list of StoredPiece
    entry_bytes : int
        Of all arrays together; not in the file.
    """

    arrays: Sequence[str]
    pieces: Sequence[StoredPiece]
    entry_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        rows = [[p.name, p.version, p.file, p.first, p.n_entries] for p in self.pieces]
        return {"arrays": list(self.arrays), "pieces": rows}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Table:
        """Return what `to_json` wrote."""
        return cls(value["arrays"], [StoredPiece(*row) for row in value["pieces"]])

    def files(self) -> list[str]:
        """Return the files of earlier checkpoints that hold pieces."""
        return sorted({piece.file for piece in self.pieces} - {OWN})


def tables_from_json(value: Any) -> list[Table]:
    """Return the tables of an operator; earlier versions wrote just one."""
    return [Table.from_json(one) for one in (value if isinstance(value, list) else [value])]


def files_of(tables: Iterable[Table]) -> list[str]:
    """Return the files of earlier checkpoints that any of the tables refers to."""
    return sorted({name for table in tables for name in table.files()})


def is_known(piece: Piece, known: Mapping[str, Any]) -> bool:
    """Whether a piece is among known ones, by name, as it is now: with the same ``version``."""
    return piece.name in known and known[piece.name].version == piece.version


class PieceMemory:
    """The pieces that the newest complete checkpoint of this run has on this rank."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, StoredPiece]] = {}
        self._files: dict[str, WrittenFile] = {}

    def forget(self) -> None:
        """Refer to nothing: the next checkpoint writes everything."""
        self._known, self._files = {}, {}

    def take(self, path: str, snapshot: PiecewiseSnapshot) -> tuple[Snapshot, list[Table]]:
        """Return what is to be written of an operator's state, and where its pieces will be."""
        known = self.known(path)
        state, tables = dict(snapshot.whole), []
        for group in snapshot.groups:
            copies, table = _taken(group, known)
            state |= copies
            tables.append(table)
        return state, tables

    def known(self, path: str) -> Mapping[str, StoredPiece]:
        """Return the pieces of an operator that need not be written again, by name."""
        return self._known.get(path, {})

    def files_of(self, tables: Iterable[Table]) -> dict[str, WrittenFile]:
        """Return the files of earlier checkpoints that tables of `take` refer to."""
        return {name: self._files[name] for name in files_of(tables)}

    def complete(
        self,
        tables: Mapping[str, Sequence[Table]],
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
            path: {
                one.name: replace(one, file=one.file or name)
                for table in own
                for one in table.pieces
                if (one.file or name) in kept
            }
            for path, own in tables.items()
        }


def _taken(group: PieceGroup, known: Mapping[str, StoredPiece]) -> tuple[Snapshot, Table]:
    """Return copies of the pieces that are not known, and where all pieces will be."""
    places, pieces, n_fresh = [], [], 0
    for place, piece in enumerate(group.pieces):
        if is_known(piece, known):
            stored = known[piece.name]
        else:
            stored = StoredPiece(piece.name, piece.version, OWN, n_fresh, piece.n_entries)
            n_fresh += piece.n_entries
            places.append(place)
        pieces.append(stored)
    copies = group.copies(np.array(places, dtype=np.int64))
    return copies, Table(list(copies), pieces, sum(array.itemsize for array in copies.values()))


def _needed_bytes(operators: Iterable[Sequence[Table]], name: str) -> dict[str, int]:
    """Return for each file the bytes of state in it; ``name`` is that of the own one."""
    needed: dict[str, int] = {}
    for tables in operators:
        for table in tables:
            for one in table.pieces:
                n_bytes = one.n_entries * table.entry_bytes
                needed[one.file or name] = needed.get(one.file or name, 0) + n_bytes
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


def assembled(
    tables: Sequence[Table],
    own: dict[str, Array],
    copy_of: Callable[[str, str, Array, Places], None],
) -> dict[str, Array]:
    """Return a snapshot as it was taken, from its own file and those that it refers to.

    ``copy_of(file, name, out, places)`` copies entries of an array of another file.
    """
    state = dict(own)
    for table in tables:
        for name in table.arrays if table.files() else ():
            fresh = own[name]
            ends = np.cumsum([one.n_entries for one in table.pieces])
            state[name] = out = np.empty(int(ends[-1]), dtype=fresh.dtype)
            places: dict[str, Places] = {}
            for one, end in zip(table.pieces, ends.tolist(), strict=True):
                at = end - one.n_entries
                places.setdefault(one.file, []).append((one.first, at, one.n_entries))
            for first, at, n_entries in places.pop(OWN, []):
                out[at : at + n_entries] = fresh[first : first + n_entries]
            for file, of_file in places.items():
                copy_of(file, name, out, of_file)
    return state

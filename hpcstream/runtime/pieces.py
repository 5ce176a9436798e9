"""Which pieces of the state are in which file: what has not changed is not written again.

::

    slice 7   12,000 entries   ckpt-000040/rank-00001.h5   from entry 0
    slice 8   11,500 entries   ckpt-000041/rank-00001.h5   from entry 0
    slice 9      800 entries   the file of this checkpoint from entry 0

Only checkpoints that are complete are referred to. A file of which less than half is
still needed is not referred to any more, and after many files all is written afresh:
a restart reads at most twice the state, from a bounded number of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcstream.checkpoint.format import Array, WrittenFile
from hpcstream.operators.base import Piece, PiecewiseSnapshot, Snapshot

MOST_FILES = 16
"""Files that a checkpoint of one rank refers to, at most."""

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
    """The pieces of one operator, in the order of its snapshot.

    Attributes
    ----------
    arrays : list of str
        Names of the arrays that are cut into pieces.
    """

    arrays: Sequence[str]
    pieces: Sequence[StoredPiece]

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


def is_known(piece: Piece, known: Mapping[str, Any]) -> bool:
    """Whether a piece is among known ones, by name, as it is now: with the same ``version``."""
    return piece.name in known and known[piece.name].version == piece.version


class PieceMemory:
    """The pieces that the newest complete checkpoint of this run has on this rank."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, StoredPiece]] = {}
        self._files: dict[str, WrittenFile] = {}
        self._written: dict[tuple[str, str], int] = {}  # entries of (file, operator)

    def forget(self) -> None:
        """Refer to nothing: the next checkpoint writes everything."""
        self._known, self._files, self._written = {}, {}, {}

    def take(self, path: str, snapshot: PiecewiseSnapshot) -> tuple[Snapshot, Table]:
        """Return what is to be written of an operator's state, and where its pieces will be."""
        known = self._known.get(path, {})
        places, pieces, n_fresh = [], [], 0
        for place, piece in enumerate(snapshot.pieces):
            if is_known(piece, known):
                stored = known[piece.name]
            else:
                stored = StoredPiece(piece.name, piece.version, OWN, n_fresh, piece.n_entries)
                n_fresh += piece.n_entries
                places.append(place)
            pieces.append(stored)
        copies = snapshot.copies(np.array(places, dtype=np.int64))
        return {**snapshot.whole, **copies}, Table(list(copies), pieces)

    def known(self, path: str) -> Mapping[str, StoredPiece]:
        """Return the pieces of an operator that need not be written again, by name."""
        return self._known.get(path, {})

    def files_of(self, table: Table) -> dict[str, WrittenFile]:
        """Return the files of earlier checkpoints that a table of `take` refers to."""
        return {name: self._files[name] for name in table.files()}

    def complete(
        self,
        tables: Mapping[str, Table],
        shared: Mapping[str, WrittenFile],
        name: str,
        file: WrittenFile,
    ) -> None:
        """Remember a checkpoint that is complete; ``name`` is that of this rank's file."""
        files = {**shared, name: file}
        known = {path: _named(table, name) for path, table in tables.items()}
        written = {key: n for key, n in self._written.items() if key[0] in files}
        for path, table in tables.items():
            written[name, path] = sum(p.n_entries for p in table.pieces if p.file == OWN)
        self.forget()
        if len(files) <= MOST_FILES:
            self._known = {path: _worth_it(p, path, written) for path, p in known.items()}
            self._files, self._written = files, written


def _named(table: Table, name: str) -> list[StoredPiece]:
    """Return the pieces of a table as another checkpoint may refer to them."""
    return [
        StoredPiece(one.name, one.version, one.file or name, one.first, one.n_entries)
        for one in table.pieces
    ]


def _worth_it(
    pieces: Sequence[StoredPiece], path: str, written: Mapping[tuple[str, str], int]
) -> dict[str, StoredPiece]:
    """Return the pieces in files of which at least half is still needed."""
    needed: dict[str, int] = {}
    for one in pieces:
        needed[one.file] = needed.get(one.file, 0) + one.n_entries
    return {
        one.name: one
        for one in pieces
        if 2 * needed[one.file] >= written.get((one.file, path), 2**62)
    }


def assembled(
    table: Table, own: dict[str, Array], arrays_of: Callable[[str], Mapping[str, Array]]
) -> dict[str, Array]:
    """Return a snapshot as it was taken, from its own file and those that it refers to."""
    others = {name: arrays_of(name) for name in table.files()}
    if not others:
        return own
    sources = {OWN: own, **others}
    state = dict(own)
    for name in table.arrays:
        parts = [
            sources[one.file][name][one.first : one.first + one.n_entries] for one in table.pieces
        ]
        state[name] = np.concatenate(parts)
    return state

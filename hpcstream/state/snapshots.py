"""Snapshots of the state of an operator: named arrays, whole or in pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True)
class Share:
    """Which share of a state an instance takes over: number ``place`` of ``places``.

    Keys are dealt as `hpcstream.exchange.partitioning.HashPartitioning` deals them.
    """

    place: int
    places: int


Snapshot = Mapping[str, np.ndarray]
"""The state of an operator: named arrays, one HDF5 dataset each. Bytes as uint8."""


class Piece(NamedTuple):
    """Entries of a state that change seldom: those of a slice.

    Attributes
    ----------
    name : str
        Unique in the operator, now and later.
    version : str
        As long as it is the same, so are the entries.
    n_entries : int
    """

    name: str
    version: str
    n_entries: int


class PieceGroup(NamedTuple):
    """Arrays of a snapshot that are cut into pieces at the same places.

    Attributes
    ----------
    pieces : list of Piece
        In the order in which they make up the arrays.
    copies : callable
        Given places of pieces (int64[n]), returns the arrays of just these: one value for
        each entry, piece after piece. To be called before the operator goes on.
    """

    pieces: Sequence[Piece]
    copies: Callable[[np.ndarray], Snapshot]


class PiecewiseSnapshot(NamedTuple):
    """A snapshot of which some arrays are cut into pieces.

    Attributes
    ----------
    whole : Snapshot
        The arrays that are not.
    groups : sequence of PieceGroup
        The others; always as many of one operator, in the same order.
    """

    whole: Snapshot
    groups: Sequence[PieceGroup]

"""The keys of a `KeyIndex` as tables: blocks of ids, and the bytes of each block's keys.

Keys are only appended, and an id keeps its key for a generation. So full blocks are
written once, and nothing is copied before the rounds continue: a background thread reads
the keys in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hpcstream.columns.ownership import KeyGroups, Ownership
from hpcstream.kernels import key_bytes
from hpcstream.state.arrays import Arrays, Ints, Slots
from hpcstream.state.group_order import entries_at, positions_in_order
from hpcstream.state.key_index import Bytes, KeyIndex
from hpcstream.state.table import (
    Order,
    Part,
    Segment,
    StateTable,
    TableCopy,
    counts_name,
    firsts_name,
)

BLOCK_KEYS = 1 << 14
"""So many keys at most are written again although they have not changed."""

_IDS, _BYTES = "keys", "key_bytes"
_STARTS, _LENGTHS, _PLACES = "key_starts", "key_lengths", "key_places"
_MOST_HASHED = 1 << 16

GroupsOf = Callable[[Ints, Bytes], KeyGroups]
"""Returns the key groups of keys, given by offsets and bytes."""


class Contents(NamedTuple):
    """The keys of an index at one time; they do not change."""

    generation: int
    offsets: Ints
    data: Bytes

    @property
    def n_keys(self) -> int:
        """Number of keys."""
        return len(self.offsets) - 1

    def between(self, first: int, stop: int) -> tuple[Ints, Bytes]:
        """Return offsets and bytes of the keys of some ids."""
        start, end = int(self.offsets[first]), int(self.offsets[stop])
        offsets = self.offsets[first : stop + 1] - start
        data = self.data[start:end]
        for array in (offsets, data):
            array.setflags(write=False)
        return offsets, data


class IdGroups:
    """The key group of each id, computed once. Used in the background only."""

    def __init__(self, groups_of: GroupsOf) -> None:
        self._groups_of = groups_of
        self._generation = -1
        self._groups: KeyGroups = np.zeros(0, dtype=np.uint16)
        self._n_known = 0

    def of(self, contents: Contents) -> KeyGroups:
        """Return the key groups of all ids."""
        if contents.generation != self._generation:
            self._generation, self._n_known = contents.generation, 0
        if contents.n_keys > len(self._groups):
            grown = np.empty(2 * contents.n_keys, dtype=np.uint16)
            grown[: self._n_known] = self._groups[: self._n_known]
            self._groups = grown
        while self._n_known < contents.n_keys:
            stop = min(self._n_known + _MOST_HASHED, contents.n_keys)
            keys = contents.between(self._n_known, stop)
            self._groups[self._n_known : stop] = self._groups_of(*keys)
            self._n_known = stop
        return self._groups[: contents.n_keys]


class KeyDictionary(StateTable):
    """Blocks of keys by id: where the bytes of each begin in its block, and how many.

    Parameters
    ----------
    index : KeyIndex
    generation : callable
        Returns a different number once ids have been given to other keys.
    groups_of : callable
    """

    name = _IDS
    order = Order(_PLACES, "key_index", stride=64)
    is_copied = False

    def __init__(self, index: KeyIndex, generation: Callable[[], int], groups_of: GroupsOf) -> None:
        self._index = index
        self._generation = generation
        self._groups_of = groups_of
        self.groups = IdGroups(groups_of)
        self.new_ids: list[Ints] = []

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for keys."""
        return self._index.n_bytes

    @property
    def bytes_table(self) -> KeyBytes:
        """The table of the bytes, which follows this one."""
        return KeyBytes(self)

    def contents(self) -> Contents:
        """Return the present keys."""
        found = self._index.contents()
        return Contents(self._generation(), found["key_offsets"], found["key_bytes"])

    def segments(self) -> Sequence[Segment]:
        """Return the blocks."""
        n_keys, generation = len(self._index), self._generation()
        sizes = [min(BLOCK_KEYS, n_keys - first) for first in range(0, n_keys, BLOCK_KEYS)]
        return [Segment(str(i), f"{size}/{generation}", size) for i, size in enumerate(sizes)]

    def copy(self, indices: Ints) -> TableCopy:
        """Copy nothing yet."""
        contents = self.contents()

        def finish() -> Arrays:
            ids, positions, groups = self.in_order(contents, indices)
            starts, lengths = _byte_offsets(contents, ids, _sizes(contents, indices))
            return {
                _STARTS: starts,
                _LENGTHS: lengths,
                _PLACES: positions,
                self.order.groups: groups[:: self.order.stride].copy(),
            }

        starts, lengths = np.zeros(0, np.int64), np.zeros(0, np.uint32)
        return TableCopy({_STARTS: starts, _LENGTHS: lengths}, finish)

    def in_order(self, contents: Contents, indices: Ints) -> tuple[Ints, Slots, KeyGroups]:
        """Return ids in the order of key groups, their positions in blocks, and their groups."""
        counts = _sizes(contents, indices)
        of_blocks = [np.arange(i * BLOCK_KEYS, i * BLOCK_KEYS + n) for i, n in zip(
            indices.tolist(), counts.tolist(), strict=True)]  # fmt: skip
        ids = np.concatenate([np.zeros(0, dtype=np.int64), *of_blocks])
        groups = self.groups.of(contents)[ids]
        positions = positions_in_order(groups, counts)
        entries = entries_at(positions, counts)
        return ids[entries], positions, groups[entries]

    def restore(self, arrays: Arrays) -> None:
        """Restore keys under the same ids."""
        starts, lengths = arrays[_STARTS], arrays[_LENGTHS]
        offsets = np.zeros(len(starts) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        place_of_id = np.empty(len(starts), dtype=np.int64)
        place_of_id[entries_at(arrays[_PLACES], arrays[counts_name(_IDS)])] = np.arange(len(starts))
        by_id = _gathered_keys(offsets, arrays[_BYTES], place_of_id)
        self._index.restore({"key_offsets": by_id[0], "key_bytes": by_id[1]})

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Take over the keys that an instance owns: `new_ids` has their ids here, -1 for others."""
        self.new_ids = []
        for part in parts:
            new = np.zeros(0, dtype=np.int64)
            if counts_name(_IDS) in part.arrays:
                n_blocks = len(part.arrays[counts_name(_IDS)])
                new = np.full(n_blocks * BLOCK_KEYS, -1, dtype=np.int64)
                for ids, offsets, data in self._owned_keys(part.arrays, owned):
                    new[ids] = self._index.ids(offsets, data)
            self.new_ids.append(new)

    def _owned_keys(self, arrays: Arrays, owned: Ownership) -> Iterator[tuple[Ints, Ints, Bytes]]:
        """Yield, block by block, ids there, offsets and bytes of keys that an instance owns.

        The keys at both ends, which other instances own, may lack some of their bytes.
        """
        key_at = byte_at = 0
        counts = [arrays[counts_name(name)].tolist() for name in (_IDS, _BYTES)]
        firsts = arrays[firsts_name(_BYTES)].tolist()
        for block, (n, n_bytes, first) in enumerate(zip(*counts, firsts, strict=True)):
            of_block = slice(key_at, key_at + n)
            starts = arrays[_STARTS][of_block] - first
            ends = starts + arrays[_LENGTHS][of_block]
            whole = np.flatnonzero((starts >= 0) & (ends <= n_bytes))
            if len(whole):
                offsets = np.append(starts[whole], ends[whole[-1]])
                data = arrays[_BYTES][byte_at : byte_at + n_bytes]
                mine = np.flatnonzero(owned.owns(_groups(self._groups_of, offsets, data)))
                if len(mine):  # consecutive, as all entries of some key groups are
                    ids = block * BLOCK_KEYS + arrays[_PLACES][of_block][whole[mine]].astype(
                        np.int64
                    )
                    yield ids, *_rebased(offsets[mine[0] : mine[-1] + 2], data)
            key_at, byte_at = key_at + n, byte_at + n_bytes


class KeyBytes(StateTable):
    """The bytes of the blocks of a `KeyDictionary`."""

    name = _BYTES
    order = Order("", "byte_index", stride=1 << 10)
    is_copied = False

    def __init__(self, keys: KeyDictionary) -> None:
        self._keys = keys

    def segments(self) -> Sequence[Segment]:
        """Return the blocks; an entry is a byte."""
        contents = self._keys.contents()
        segments = self._keys.segments()
        ends = np.minimum(np.arange(1, len(segments) + 1) * BLOCK_KEYS, contents.n_keys)
        sizes = np.diff(contents.offsets[ends], prepend=0).tolist()
        return [s._replace(n_entries=size) for s, size in zip(segments, sizes, strict=True)]

    def copy(self, indices: Ints) -> TableCopy:
        """Copy nothing yet."""
        contents, stride = self._keys.contents(), self.order.stride

        def finish() -> Arrays:
            ids, _, groups = self._keys.in_order(contents, indices)
            offsets, data = _gathered_keys(contents.offsets, contents.data, ids)
            keys = np.searchsorted(offsets, np.arange(0, len(data), stride), "right") - 1
            return {_BYTES: data, self.order.groups: groups[keys]}

        return TableCopy({_BYTES: np.zeros(0, np.uint8)}, finish)

    def restore(self, arrays: Arrays) -> None:
        """Leave it to the `KeyDictionary`."""

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Leave it to the `KeyDictionary`."""


def _sizes(contents: Contents, indices: Ints) -> Ints:
    return np.minimum(BLOCK_KEYS, contents.n_keys - indices * BLOCK_KEYS)


def _byte_offsets(
    contents: Contents, ids: Ints, counts: Ints
) -> tuple[Ints, npt.NDArray[np.uint32]]:
    """Return the offset of each key in its block, for consecutive blocks, and its length."""
    lengths = contents.offsets[ids + 1] - contents.offsets[ids]
    starts = np.cumsum(lengths) - lengths
    firsts = np.cumsum(counts) - counts
    starts -= np.repeat(starts[firsts[counts > 0]], counts[counts > 0])
    return starts, lengths.astype(np.uint32)


def _gathered_keys(offsets: Ints, data: Bytes, ids: Ints) -> tuple[Ints, Bytes]:
    """Return offsets and bytes of the keys of some ids."""
    out_offsets = np.empty(len(ids) + 1, dtype=np.int64)
    key_bytes.measure_bytes(offsets, ids, out_offsets)
    out = np.empty(int(out_offsets[-1]), dtype=np.uint8)
    key_bytes.gather_bytes(offsets, data, ids, out_offsets, out)
    return out_offsets, out


def _rebased(offsets: Ints, data: Bytes) -> tuple[Ints, Bytes]:
    """Return offsets that begin at 0, and only their bytes."""
    own, rebased = data[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0]
    for array in (own, rebased):
        array.setflags(write=False)
    return rebased, own


def _groups(groups_of: GroupsOf, offsets: Ints, data: Bytes) -> KeyGroups:
    return groups_of(*_rebased(offsets, data))

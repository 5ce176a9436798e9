"""Byte strings as small numbers, for keys that are not words themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.kernels import hashing, key_bytes

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
BinaryHash = Callable[[npt.NDArray[Any], Bytes, Hashes], None]

_LEAST_IDS = 1 << 10
_LEAST_BYTES = 1 << 14


class KeyIndex:
    """Gives every distinct key an id, counting from 0, and the key back for the id.

    The 64-bit hash finds the place, the bytes decide: two keys with one hash
    stay two keys. Ids stay until `keep` throws some away.

    Parameters
    ----------
    hash_binary : (offsets, data, out_hashes) -> None
        Hash of each key; tests put in a bad one.
    """

    def __init__(self, hash_binary: BinaryHash = hashing.hash_binary) -> None:
        self._hash_binary = hash_binary
        self._reset(_LEAST_IDS, _LEAST_BYTES)

    def __len__(self) -> int:
        return int(self._book[key_bytes.N_IDS])

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        arrays = (self._table, self._hashes, self._offsets, self._data)
        return sum(array.nbytes for array in arrays)

    def ids(self, offsets: npt.NDArray[Any], data: Bytes) -> Ints:
        """Return the id of each key ``data[offsets[i]:offsets[i + 1]]``, new ones made."""
        words = np.empty(len(offsets) - 1, dtype=np.uint64)
        self._hash_binary(offsets, data, words)
        done = 0
        while True:
            done += key_bytes.intern(
                self._book, self._table, self._hashes, self._offsets, self._data,
                offsets[done:], data, words[done:],
            )  # fmt: skip
            if done == len(words):
                break
            self._make_room(int(offsets[done + 1]) - int(offsets[done]))
        ids = words.view(np.int64)
        ids.setflags(write=False)
        return ids

    def keys(self, ids: Ints) -> tuple[Ints, Bytes]:
        """Return offsets (int64[n + 1]) and bytes of the keys of some ids."""
        offsets = np.empty(len(ids) + 1, dtype=np.int64)
        key_bytes.measure_bytes(self._offsets, ids, offsets)
        data = np.empty(int(offsets[-1]), dtype=np.uint8)
        key_bytes.gather_bytes(self._offsets, self._data, ids, offsets, data)
        return offsets, data

    def keep(self, ids: Ints) -> Ints:
        """Throw away all keys but those of ``ids`` (distinct, ascending).

        Returns
        -------
        int64[n_ids]
            The new id for each old one that was kept, 0 for others.
        """
        new_of_old = np.zeros(max(len(self), 1), dtype=np.int64)
        new_of_old[ids] = np.arange(len(ids))
        self._take_over(*self.keys(ids))
        return new_of_old

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the keys in the order of their ids."""
        offsets = self._offsets[: len(self) + 1].copy()
        return {"key_offsets": offsets, "key_bytes": self._data[: int(offsets[-1])].copy()}

    def restore(self, state: Any) -> None:
        """Take over the keys of a snapshot (a mapping), under the same ids."""
        offsets = np.ascontiguousarray(state["key_offsets"])
        self._take_over(offsets, np.ascontiguousarray(state["key_bytes"]))

    def _reset(self, n_ids: int, n_bytes: int) -> None:
        self._book = np.zeros(key_bytes.N_FIELDS, dtype=np.int64)
        self._table = np.zeros(4 * (1 << (n_ids - 1).bit_length()), dtype=np.uint32)
        self._hashes: Hashes = np.empty(n_ids, dtype=np.uint64)
        self._offsets: Ints = np.zeros(n_ids + 1, dtype=np.int64)
        self._data: Bytes = np.empty(n_bytes, dtype=np.uint8)

    def _take_over(self, offsets: Ints, data: Bytes) -> None:
        """Replace everything by distinct keys."""
        n_ids = len(offsets) - 1
        self._reset(max(_LEAST_IDS, 2 * n_ids), max(_LEAST_BYTES, 2 * len(data)))
        for array in (offsets, data):
            array.setflags(write=False)
        self._hash_binary(offsets, data, self._hashes[:n_ids])
        self._offsets[: n_ids + 1] = offsets
        self._data[: len(data)] = data
        self._book[key_bytes.N_IDS] = n_ids
        key_bytes.fill_table(self._table, self._hashes, n_ids)

    def _make_room(self, key_length: int) -> None:
        need = self._book[key_bytes.NEED]
        if need == key_bytes.NEED_BYTES:
            self._data = _grown(self._data, 2 * len(self._data) + key_length)
        elif need == key_bytes.NEED_IDS:
            n_ids = 2 * len(self._hashes)
            self._hashes = _grown(self._hashes, n_ids)
            self._offsets = _grown(self._offsets, n_ids + 1)
        else:
            assert need == key_bytes.NEED_TABLE, f"stopped for need {need}"
            self._table = np.zeros(4 * len(self._table), dtype=np.uint32)
            key_bytes.fill_table(self._table, self._hashes, len(self))


def _grown(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    grown = np.empty(length, dtype=array.dtype)
    grown[: len(array)] = array
    return grown

"""An index from byte strings to small integers, for keys that are not words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.kernels import interning, key_bytes

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_LEAST_IDS = 1 << 10
_LEAST_BYTES = 1 << 14


class KeyIndex:
    """Assigns an id, counting from 0, to every distinct key; returns the key of an id.

    A hash selects the slot and the bytes decide, so keys with equal hashes stay distinct.
    Ids are stable until `keep` removes some keys.

    Parameters
    ----------
    hash_mask : int
        Bits of the hash that count; tests leave few.
    """

    def __init__(self, hash_mask: int = -1) -> None:
        self._hash_mask = hash_mask
        self._scratch = np.empty(4 * interning.BLOCK, dtype=np.uint64)
        self._reset(_LEAST_IDS, _LEAST_BYTES)

    def __len__(self) -> int:
        return int(self._book[interning.N_IDS])

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        arrays = (self._table, self._records, self._offsets, self._data)
        return sum(array.nbytes for array in arrays)

    def ids(self, offsets: npt.NDArray[Any], data: Bytes) -> Ints:
        """Return the id of each key ``data[offsets[i]:offsets[i + 1]]``; new keys get new ids."""
        ids = np.empty(len(offsets) - 1, dtype=np.int64)
        done = 0
        while True:
            entries = (self._table, self._records, self._offsets, self._data)
            done += interning.intern(
                self._book, entries, offsets[done:], data, self._scratch, ids[done:]
            )
            if done == len(ids):
                break
            self._make_room(int(offsets[done + 1]) - int(offsets[done]))
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
        """Remove all keys but those of ``ids`` (distinct, ascending).

        Returns
        -------
        int64[n_ids]
            The new id for each old one that was kept, 0 for others.
        """
        new_of_old = np.zeros(max(len(self), 1), dtype=np.int64)
        new_of_old[ids] = np.arange(len(ids))
        self._take_over(*self.keys(ids))
        return new_of_old

    def contents(self) -> dict[str, npt.NDArray[Any]]:
        """Return the keys in the order of their ids, as views: later keys are appended to them."""
        offsets = self._offsets[: len(self) + 1]
        return {"key_offsets": offsets, "key_bytes": self._data[: int(offsets[-1])]}

    def restore(self, state: Any) -> None:
        """Restore the `contents` of another index, under the same ids."""
        offsets = np.ascontiguousarray(state["key_offsets"])
        self._take_over(offsets, np.ascontiguousarray(state["key_bytes"]))

    def _reset(self, n_ids: int, n_bytes: int) -> None:
        self._book = np.zeros(interning.N_FIELDS, dtype=np.int64)
        self._book[interning.HASH_MASK] = self._hash_mask
        self._table = np.zeros(4 * (1 << (n_ids - 1).bit_length()), dtype=np.uint32)
        self._records = np.empty(4 * n_ids, dtype=np.uint64)
        self._offsets: Ints = np.zeros(n_ids + 1, dtype=np.int64)
        self._data: Bytes = np.empty(n_bytes, dtype=np.uint8)

    def _take_over(self, offsets: Ints, data: Bytes) -> None:
        """Replace all keys by these, which are distinct; their ids count from 0."""
        n_ids = len(offsets) - 1
        self._reset(max(_LEAST_IDS, 2 * n_ids), max(_LEAST_BYTES, 2 * len(data)))
        for array in (offsets, data):
            array.setflags(write=False)
        self.ids(offsets, data)

    def _make_room(self, key_length: int) -> None:
        need = self._book[interning.NEED]
        if need == interning.NEED_BYTES:
            self._data = _grown(self._data, 2 * len(self._data) + key_length)
        elif need == interning.NEED_IDS:
            self._records = _grown(self._records, 2 * len(self._records))
            self._offsets = _grown(self._offsets, len(self._records) // 4 + 1)
        else:
            assert need == interning.NEED_TABLE, f"stopped for need {need}"
            self._table = np.zeros(4 * len(self._table), dtype=np.uint32)
            interning.fill_table(self._book, self._table, self._records)


def _grown(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    grown = np.empty(length, dtype=array.dtype)
    grown[: len(array)] = array
    return grown

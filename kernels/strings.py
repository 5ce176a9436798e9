"""Strings of a column compared with one string, and rows of strings picked out.

Strings are taken as they lie in an Arrow array: row ``i`` is
``data[offsets[i]:offsets[i + 1]]``.
"""

import numpy as np
from numba import njit

from hpcstream.kernels.hashing import load_word

_WORD = 8


@njit(cache=True, nogil=True)
def _bytes_differ(data, start, wanted):
    difference = np.uint8(0)
    for byte in range(wanted.shape[0]):
        difference |= data[start + byte] ^ wanted[byte]
    return difference != 0


@njit(cache=True, nogil=True)
def _equal_short(offsets, data, wanted, out_equal):
    """Compare by one masked word; strings at the very end, where no word is, byte by byte."""
    n_bytes = np.int64(wanted.shape[0])
    mask = np.uint64(0xFFFFFFFFFFFFFFFF)
    if n_bytes < _WORD:
        mask = (np.uint64(1) << np.uint64(8 * n_bytes)) - np.uint64(1)
    word = np.uint64(0)
    for byte in range(n_bytes):
        word |= np.uint64(wanted[byte]) << np.uint64(8 * byte)
    last_word = np.int64(data.shape[0]) - _WORD
    for row in range(out_equal.shape[0]):
        start = np.int64(offsets[row])
        is_long = np.int64(offsets[row + 1]) - start == n_bytes
        if start <= last_word:
            out_equal[row] = is_long & ((load_word(data, start) & mask) == word)
        else:
            out_equal[row] = is_long and not _bytes_differ(data, start, wanted)


@njit(cache=True, nogil=True)
def _equal_long(offsets, data, wanted, out_equal):
    n_bytes = np.int64(wanted.shape[0])
    for row in range(out_equal.shape[0]):
        start = np.int64(offsets[row])
        is_long = np.int64(offsets[row + 1]) - start == n_bytes
        out_equal[row] = is_long and not _bytes_differ(data, start, wanted)


@njit(cache=True, nogil=True)
def equal_to(offsets, data, wanted, out_equal):
    """Say of each string whether it is ``wanted``.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
    data : uint8[n_bytes]
    wanted : uint8[any length]
    out_equal : bool[n_rows]
    """
    if wanted.shape[0] <= _WORD:
        _equal_short(offsets, data, wanted, out_equal)
    else:
        _equal_long(offsets, data, wanted, out_equal)


@njit(cache=True, nogil=True)
def true_rows(flags, out_rows):
    """Write the numbers of the rows that are true; return how many.

    Parameters
    ----------
    flags : bool[n_rows]
    out_rows : int32[n_rows]
    """
    n_true = np.int64(0)
    for row in range(flags.shape[0]):
        out_rows[n_true] = row
        n_true += np.int64(flags[row])
    return n_true


def _read_only(dtype, n_items):
    array = np.zeros(n_items, dtype=dtype)
    array.setflags(write=False)
    return array


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    flags = np.zeros(1, dtype=np.bool_)
    data = _read_only(np.uint8, 1)
    for dtype in (np.int32, np.int64):
        equal_to(_read_only(dtype, 2), data, data, flags)
    true_rows(flags, np.zeros(1, dtype=np.int32))

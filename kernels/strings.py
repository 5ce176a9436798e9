"""Compares the strings of a column with one string, and finds rows by a bitmap.

Strings have the layout of an Arrow array: row ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.hashing import load_word

_WORD = 8


@lean_njit()
def _bytes_differ(data, start, wanted):
    difference = np.uint8(0)
    for byte in range(wanted.shape[0]):
        difference |= data[start + byte] ^ wanted[byte]
    return difference != 0


@lean_njit()
def _equal_words(offsets, data, wanted, n_bytes_out, out_bits):
    """Compare strings, eight at a time, by one masked word each, which must be within ``data``."""
    n_bytes = np.int64(wanted.shape[0])
    mask = np.uint64(0xFFFFFFFFFFFFFFFF)
    if n_bytes < _WORD:
        mask = (np.uint64(1) << np.uint64(8 * n_bytes)) - np.uint64(1)
    word = np.uint64(0)
    for byte in range(n_bytes):
        word |= np.uint64(wanted[byte]) << np.uint64(8 * byte)
    for byte in range(n_bytes_out):
        bits = np.uint8(0)
        start = np.int64(offsets[np.uint64(8 * byte)])
        for bit in range(8):
            stop = np.int64(offsets[np.uint64(8 * byte + bit + 1)])
            is_equal = (stop - start == n_bytes) & ((load_word(data, start) & mask) == word)
            bits |= np.uint8(is_equal) << np.uint8(bit)
            start = stop
        out_bits[byte] = bits


@lean_njit()
def equal_to(offsets, data, wanted, out_bits):
    """Write for each string whether it equals ``wanted``.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
    data : uint8[n_bytes]
    wanted : uint8[any length]
    out_bits : uint8[(n_rows + 7) // 8]
        A bitmap; the bits after the last row are 0.
    """
    n_rows = offsets.shape[0] - 1
    n_fast = n_rows // 8 if wanted.shape[0] <= _WORD else 0
    while n_fast > 0 and np.int64(offsets[8 * n_fast - 1]) + _WORD > data.shape[0]:
        n_fast -= 1
    _equal_words(offsets, data, wanted, n_fast, out_bits)
    for byte in range(n_fast, out_bits.shape[0]):
        out_bits[byte] = 0
    for row in range(8 * n_fast, n_rows):
        start = np.int64(offsets[row])
        is_long = np.int64(offsets[row + 1]) - start == wanted.shape[0]
        if is_long and not _bytes_differ(data, start, wanted):
            out_bits[row >> 3] |= np.uint8(1 << (row & 7))


@lean_njit()
def true_rows(bits, first_bit, n_rows, out_rows):
    """Write the numbers of the rows whose bit is set; return their number.

    Parameters
    ----------
    bits : uint8[n_bytes]
        A bitmap.
    first_bit : int64
        Position of the bit of row 0.
    n_rows : int64
    out_rows : int32[n_rows]
    """
    n_true = np.uint64(0)
    row = np.int64(0)
    while row < n_rows and (first_bit + row) & 7:
        out_rows[n_true] = row
        n_true += np.uint64(_bit(bits, first_bit + row))
        row += 1
    while row + 8 <= n_rows:
        eight = np.uint64(bits[(first_bit + row) >> 3])
        for bit in range(8):
            out_rows[n_true] = row + bit
            n_true += (eight >> np.uint64(bit)) & np.uint64(1)
        row += 8
    while row < n_rows:
        out_rows[n_true] = row
        n_true += np.uint64(_bit(bits, first_bit + row))
        row += 1
    return np.int64(n_true)


@lean_njit()
def _bit(bits, position):
    return (bits[position >> 3] >> np.uint8(position & 7)) & np.uint8(1)


def _read_only(dtype, n_items):
    array = np.zeros(n_items, dtype=dtype)
    array.setflags(write=False)
    return array


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    bits = np.zeros(1, dtype=np.uint8)
    data = _read_only(np.uint8, 1)
    for dtype in (np.int32, np.int64):
        equal_to(_read_only(dtype, 2), data, data, bits)
    for mask in (_read_only(np.uint8, 1), bits):  # Arrow's, or made by `equal_to`
        true_rows(mask, 0, 1, np.zeros(1, dtype=np.int32))

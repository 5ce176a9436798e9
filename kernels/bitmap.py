"""Arrow's bitmaps: one bit per row, least significant bit first."""

import numpy as np

from hpcstream.kernels.compiling import lean_njit


@lean_njit()
def _bit(bits, position):
    return (bits[position >> np.uint64(3)] >> np.uint8(position & np.uint64(7))) & np.uint8(1)


@lean_njit()
def _gather_run(bits, first_bit, order, first, n_rows, start, out_bytes):
    position = np.uint64(first)
    origin = np.uint64(first_bit)
    for byte in range(start, start + (n_rows >> 3)):
        gathered = np.uint8(0)
        for bit in range(8):
            source = origin + np.uint64(np.uint32(order[position + np.uint64(bit)]))
            gathered |= _bit(bits, source) << np.uint8(bit)
        out_bytes[byte] = gathered
        position += np.uint64(8)
    if n_rows & 7:
        gathered = np.uint8(0)
        for bit in range(n_rows & 7):
            source = origin + np.uint64(np.uint32(order[position + np.uint64(bit)]))
            gathered |= _bit(bits, source) << np.uint8(bit)
        out_bytes[start + (n_rows >> 3)] = gathered


@lean_njit()
def _copy_run(bits, first_bit, n_rows, start, out_bytes):
    shift = np.uint8(first_bit & 7)
    source = first_bit >> 3
    last_source = (first_bit + n_rows - 1) >> 3
    for byte in range((n_rows + 7) // 8):
        low = bits[source + byte] >> shift
        high = np.uint8(0)
        if shift != 0 and source + byte < last_source:
            high = bits[source + byte + 1] << np.uint8(8 - shift)
        out_bytes[start + byte] = low | high


@lean_njit()
def gather_bits(bits, first_bit, order, offsets, starts, out_bytes):
    """Copy the bits of each partition's rows to the bitmap in its block.

    Parameters
    ----------
    bits : uint8[n_bytes]
        A bitmap.
    first_bit : int64
        Position of the bit of row 0.
    order : int32[n_ordered] or int32[0]
        Row numbers grouped by partition; empty if rows keep their order.
    offsets : int64[n_partitions + 1]
        Partition ``p`` is ``order[offsets[p]:offsets[p + 1]]``.
    starts : int64[n_partitions]
        Offset of each partition's bitmap in ``out_bytes``. Bits after the last row are
        undefined.
    out_bytes : uint8[...]
    """
    ordered = order.shape[0] > 0
    for partition in range(starts.shape[0]):
        first = offsets[partition]
        n_rows = offsets[partition + 1] - first
        if n_rows == 0:
            continue
        start = starts[partition]
        if ordered:
            _gather_run(bits, first_bit, order, first, n_rows, start, out_bytes)
        else:
            _copy_run(bits, first_bit + first, n_rows, start, out_bytes)


def warm_up():
    """Compile what the engine calls: bitmaps of Arrow are read-only."""
    bits = np.zeros(1, dtype=np.uint8)
    bits.setflags(write=False)
    order = np.empty(0, dtype=np.int32)
    gather_bits(
        bits, 0, order, np.array([0, 1]), np.zeros(1, dtype=np.int64), np.empty(1, dtype=np.uint8)
    )

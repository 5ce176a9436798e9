"""Rows at places in arenas: values and strings are written there, and picked again.

A string lies in a heap of bytes; its place has where it begins and how long it is.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.copying import copy_items


@lean_njit()
def scatter(values, places, out):
    """Write the value of each row (an unsigned type) to its place (uint32[n])."""
    for row in range(places.shape[0]):
        out[places[row]] = values[row]


@lean_njit()
def write_strings(offsets, data, places, end, strings, heap):
    """Put strings behind the end of a heap, which has room, and note where each is.

    Parameters
    ----------
    offsets : int32[n + 1] or int64[n + 1]
    data : uint8[n_bytes]
    places : uint32[n]
    end : int64
    strings : (int64[capacity], uint32[capacity])
        Where each begins, and its length.
    heap : uint8[n_bytes]
    """
    starts, lengths = strings
    at = np.int64(end)
    for row in range(places.shape[0]):
        begin, stop = np.int64(offsets[row]), np.int64(offsets[row + 1])
        starts[places[row]] = at
        lengths[places[row]] = np.uint32(stop - begin)
        copy_items(data, begin, stop - begin, heap, at)
        at += stop - begin


@lean_njit()
def measure_strings(lengths, places, out_offsets):
    """Write where the string of each place (uint32[n]) ends in a copy, after a 0."""
    at = np.int64(0)
    out_offsets[0] = 0
    for row in range(places.shape[0]):
        at += np.int64(lengths[places[row]])
        out_offsets[row + 1] = at


@lean_njit()
def copy_strings(starts, heap, places, offsets, out_data):
    """Copy the string of each place to where ``offsets`` says."""
    for row in range(places.shape[0]):
        at = np.int64(offsets[row])
        copy_items(heap, starts[places[row]], np.int64(offsets[row + 1]) - at, out_data, at)


def warm_up():
    """Compile for the arguments the engine passes: columns of Arrow, read-only."""
    places = np.zeros(0, dtype=np.uint32)
    heap, data = np.zeros(1, dtype=np.uint8), np.zeros(1, dtype=np.uint8)
    data.setflags(write=False)
    for unsigned in (np.uint8, np.uint16, np.uint32, np.uint64):
        values = np.zeros(0, dtype=unsigned)
        values.setflags(write=False)
        scatter(values, places, np.zeros(1, dtype=unsigned))
    strings = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.uint32)
    for kind in (np.int32, np.int64):
        offsets, written = np.zeros(1, dtype=kind), np.zeros(1, dtype=kind)
        offsets.setflags(write=False)
        write_strings(offsets, data, places, 0, strings, heap)
        measure_strings(strings[1], places, written)
        copy_strings(strings[0], heap, places, written, heap)

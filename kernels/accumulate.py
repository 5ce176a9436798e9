"""Accumulates values into slots, one small loop for each word of state.

``slots[i]`` is the slot of row ``i``. Slot 0 belongs to no entry: rows to ignore (late rows,
nulls) have slot 0, so no loop needs a branch for them. The same kernels merge partial
results: a partial sum is a value like any other. For these, ``slots`` may also be a number,
the first slot of a contiguous range, which compiles to vector instructions.
"""

import numpy as np
from numba import types
from numba.extending import overload

from hpcstream.kernels.compiling import lean_njit


def slot_at(slots, row):
    """Return the slot of a row."""
    return slots[row] if isinstance(slots, np.ndarray) else slots + np.uint64(row)


@overload(slot_at, inline="always")
def _slot_at(slots, row):
    if isinstance(slots, types.Array):
        return lambda slots, row: slots[row]
    return lambda slots, row: slots + np.uint64(row)


@lean_njit()
def mask_slots(slots, valid, out_slots):
    """Set the slots of rows that are not ``valid`` to 0.

    Parameters
    ----------
    slots : uint32[n]
    valid : bool[n]
    out_slots : uint32[n]
    """
    for row in range(slots.shape[0]):
        out_slots[row] = slots[row] if valid[row] else np.uint32(0)


@lean_njit()
def count_nulls(slots, valid, out_counts):
    """Add one to ``out_counts`` (int64) for each row that is not ``valid``."""
    for row in range(slots.shape[0]):
        out_counts[slots[row]] += np.int64(not valid[row])


@lean_njit()
def add_counts(slots, counts, out_counts):
    """Add ``counts`` (int64[n]), which cannot overflow."""
    for row in range(counts.shape[0]):
        out_counts[slot_at(slots, row)] += counts[row]


@lean_njit()
def add_floats(slots, values, out_sums):
    """Add ``values`` (float64[n]) in row order."""
    for row in range(values.shape[0]):
        out_sums[slot_at(slots, row)] += values[row]


@lean_njit()
def add_integers(slots, values, out_sums, out_carries):
    """Add ``values`` (int64[n]) to 128-bit sums.

    The sum is ``out_sums + out_carries * 2**64``: the first wraps, the second counts the
    wraps. So overflow depends only on the final value, not on the order of rows or the
    number of ranks.
    """
    for row in range(values.shape[0]):
        slot = slot_at(slots, row)
        value = values[row]
        before = out_sums[slot]
        after = before + value
        out_sums[slot] = after
        if (before ^ after) & (value ^ after) < 0:
            out_carries[slot] += 1 if value > 0 else -1


@lean_njit()
def add_unsigned(slots, values, out_sums, out_carries):
    """Add ``values`` (uint64[n]) to 128-bit sums, as in `add_integers`."""
    for row in range(values.shape[0]):
        slot = slot_at(slots, row)
        value = np.int64(values[row])
        before = out_sums[slot]
        after = before + value
        out_sums[slot] = after
        carry = np.int64(value < 0)  # its true value is 2**64 more
        if (before ^ after) & (value ^ after) < 0:
            carry += 1 if value > 0 else -1
        if carry != 0:
            out_carries[slot] += carry


@lean_njit()
def keep_least(slots, values, out_least):
    """Keep the least of ``values`` (int64[n] or uint64[n])."""
    for row in range(values.shape[0]):
        slot = slot_at(slots, row)
        out_least[slot] = min(out_least[slot], values[row])


@lean_njit()
def keep_greatest(slots, values, out_greatest):
    """Keep the greatest of ``values`` (int64[n] or uint64[n])."""
    for row in range(values.shape[0]):
        slot = slot_at(slots, row)
        out_greatest[slot] = max(out_greatest[slot], values[row])


@lean_njit()
def keep_least_float(slots, values, out_least):
    """Keep the least of ``values`` (float64[n]), starting at NaN, which is greater than any."""
    for row in range(values.shape[0]):
        slot = slot_at(slots, row)
        value = values[row]
        least = out_least[slot]
        out_least[slot] = value if (value < least) | (least != least) else least


@lean_njit()
def keep_greatest_float(slots, values, out_greatest):
    """Keep the greatest of ``values`` (float64[n]), starting at -inf; NaN is greater than any."""
    for row in range(values.shape[0]):
        slot = slot_at(slots, row)
        value = values[row]
        greatest = out_greatest[slot]
        out_greatest[slot] = value if (value > greatest) | (value != value) else greatest


@lean_njit()
def add_moments(slots, values, out_counts, out_means, out_squares):
    """Update count, mean and sum of squared deviations (float64) by Welford's method."""
    for row in range(values.shape[0]):
        slot = slot_at(slots, row)
        value = values[row]
        count = out_counts[slot] + 1.0
        delta = value - out_means[slot]
        mean = out_means[slot] + delta / count
        out_counts[slot] = count
        out_means[slot] = mean
        out_squares[slot] += delta * (value - mean)


@lean_njit()
def merge_moments(slots, counts, means, squares, out_counts, out_means, out_squares):
    """Merge moments of disjoint rows (Chan, Golub and LeVeque 1979, eq. 2.1)."""
    for row in range(counts.shape[0]):
        slot = slot_at(slots, row)
        if counts[row] == 0.0:
            continue
        n_before = out_counts[slot]
        total = n_before + counts[row]
        delta = means[row] - out_means[slot]
        out_counts[slot] = total
        out_means[slot] += delta * (counts[row] / total)
        out_squares[slot] += squares[row] + delta * delta * (n_before * counts[row] / total)


@lean_njit()
def keep_first(slots, times, orders, values, out_times, out_orders, out_values):
    """Keep the value (int64 bits) of the least (time, order, value), in any order of rows."""
    for row in range(times.shape[0]):
        slot = slot_at(slots, row)
        time = times[row]
        order = orders[row]
        if time > out_times[slot]:
            continue
        if time == out_times[slot]:
            if order > out_orders[slot]:
                continue
            if order == out_orders[slot] and values[row] >= out_values[slot]:
                continue
        out_times[slot] = time
        out_orders[slot] = order
        out_values[slot] = values[row]


@lean_njit()
def keep_last(slots, times, orders, values, out_times, out_orders, out_values):
    """Keep the value (int64 bits) of the greatest (time, order, value), in any order of rows."""
    for row in range(times.shape[0]):
        slot = slot_at(slots, row)
        time = times[row]
        order = orders[row]
        if time < out_times[slot]:
            continue
        if time == out_times[slot]:
            if order < out_orders[slot]:
                continue
            if order == out_orders[slot] and values[row] <= out_values[slot]:
                continue
        out_times[slot] = time
        out_orders[slot] = order
        out_values[slot] = values[row]


@lean_njit()
def keep_first_placed(slots, rows, out):
    """Keep the value of the least (time, order, place, value).

    Parameters
    ----------
    slots : uint32[n] or uint64
    rows, out : tuple of four int64 arrays
        Times, orders, places and the bits of values.
    """
    times, orders, places, values = rows
    out_times, out_orders, out_places, out_values = out
    for row in range(times.shape[0]):
        slot = slot_at(slots, row)
        if times[row] > out_times[slot]:
            continue
        if times[row] == out_times[slot]:
            if orders[row] > out_orders[slot]:
                continue
            if orders[row] == out_orders[slot]:
                if places[row] > out_places[slot]:
                    continue
                if places[row] == out_places[slot] and values[row] >= out_values[slot]:
                    continue
        out_times[slot] = times[row]
        out_orders[slot] = orders[row]
        out_places[slot] = places[row]
        out_values[slot] = values[row]


@lean_njit()
def keep_last_placed(slots, rows, out):
    """Keep the value of the greatest (time, order, place, value), as in `keep_first_placed`."""
    times, orders, places, values = rows
    out_times, out_orders, out_places, out_values = out
    for row in range(times.shape[0]):
        slot = slot_at(slots, row)
        if times[row] < out_times[slot]:
            continue
        if times[row] == out_times[slot]:
            if orders[row] < out_orders[slot]:
                continue
            if orders[row] == out_orders[slot]:
                if places[row] < out_places[slot]:
                    continue
                if places[row] == out_places[slot] and values[row] <= out_values[slot]:
                    continue
        out_times[slot] = times[row]
        out_orders[slot] = orders[row]
        out_places[slot] = places[row]
        out_values[slot] = values[row]


def _read_only(n_rows, dtype):
    array = np.zeros(n_rows, dtype=dtype)
    array.setflags(write=False)
    return array


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    slots = np.zeros(0, dtype=np.uint32)
    valid = _read_only(0, np.bool_)
    integers, floats = _read_only(0, np.int64), _read_only(0, np.float64)
    unsigned = _read_only(0, np.uint64)
    sums, reals, naturals = np.zeros(1, np.int64), np.zeros(1), np.zeros(1, np.uint64)
    mask_slots(slots, valid, slots)
    count_nulls(slots, valid, sums)
    add_unsigned(slots, unsigned, sums, sums)
    add_moments(slots, floats, reals, reals, reals)
    for targets in (slots, np.uint64(1)):
        add_counts(targets, integers, sums)
        add_floats(targets, floats, reals)
        add_integers(targets, integers, sums, sums)
        for keep in (keep_least, keep_greatest):
            keep(targets, integers, sums)
            keep(targets, unsigned, naturals)
        keep_least_float(targets, floats, reals)
        keep_greatest_float(targets, floats, reals)
        merge_moments(targets, floats, floats, floats, reals, reals, reals)
        keep_first(targets, integers, integers, integers, sums, sums, sums)
        keep_last(targets, integers, integers, integers, sums, sums, sums)
        keep_first_placed(targets, (integers,) * 4, (sums,) * 4)
        keep_last_placed(targets, (integers,) * 4, (sums,) * 4)

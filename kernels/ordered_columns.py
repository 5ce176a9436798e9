"""Columns computed from the rows of each key in order: where values come from, running totals.

A slot (uint32) stands for the key of a row. ``last`` is scratch by slot, -1 everywhere between two
calls. A value comes from a row of the batch, or from a place (uint32) at which an earlier batch
left it; then its row is ``n_rows + k``, its place the k-th that is written. -1: there is none.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit


@lean_njit()
def link_rows(slots, seen, last, out_previous, out_ordinals):
    """Write the row before each of its key in the batch (-1: none), and its number in all time.

    ``seen`` (int64[capacity]) is how many rows of a key there were; it counts these, too.
    """
    for row in range(slots.shape[0]):
        slot = slots[row]
        before = last[slot]
        out_previous[row] = before
        out_ordinals[row] = seen[slot] if before < 0 else out_ordinals[before] + 1
        last[slot] = row
    for row in range(slots.shape[0]):
        slot = slots[row]
        seen[slot] = out_ordinals[row] + 1
        last[slot] = -1


@lean_njit()
def shifted_rows(slots, n, links, out_rows, out_places):
    """Write where the value ``n`` rows before each of its key comes from.

    Parameters
    ----------
    slots : uint32[n_rows]
    n : int64
        At least 1. Row number ``o`` of a key is left at place ``slot * n + o % n``.
    links : (int64[n_rows], int64[n_rows])
        What `link_rows` wrote.
    out_rows : int64[n_rows]
    out_places : uint32[n_rows]

    Returns
    -------
    int64
        How many places were written.
    """
    previous, ordinals = links
    n_rows, n_places = slots.shape[0], 0
    for row in range(n_rows):
        wanted = ordinals[row] - n
        at, steps = row, 0
        while steps < n and previous[at] >= 0:
            at = previous[at]
            steps += 1
        if wanted < 0:
            out_rows[row] = -1
        elif steps == n:
            out_rows[row] = at
        else:
            out_places[n_places] = np.uint32(np.int64(slots[row]) * n + wanted % n)
            out_rows[row] = n_rows + n_places
            n_places += 1
    return n_places


@lean_njit()
def rows_to_leave(slots, n, seen, ordinals, out_rows, out_places):
    """Write the last ``n`` rows of each key (int64), and the places at which to leave them.

    Returns
    -------
    int64
        How many.
    """
    n_left = 0
    for row in range(slots.shape[0]):
        slot = np.int64(slots[row])
        if ordinals[row] >= seen[slot] - n:
            out_rows[n_left] = row
            out_places[n_left] = np.uint32(slot * n + ordinals[row] % n)
            n_left += 1
    return n_left


@lean_njit()
def filled_rows(slots, valid, has_value, last, out_rows, out_places):
    """Write where the last value of each key up to a row comes from; it is left at its slot.

    ``has_value`` (int64[capacity]) says whether a value was left there.

    Returns
    -------
    int64
        How many places were written.
    """
    n_rows, n_places = slots.shape[0], 0
    for row in range(n_rows):
        slot = slots[row]
        if valid[row]:
            last[slot] = row
        if last[slot] >= 0:
            out_rows[row] = last[slot]
        elif has_value[slot]:
            out_places[n_places] = slot
            out_rows[row] = n_rows + n_places
            n_places += 1
        else:
            out_rows[row] = -1
    return n_places


@lean_njit()
def values_to_leave(slots, has_value, last, out_rows, out_places):
    """Write the rows with the last value of each key, after `filled_rows`; return how many."""
    n_left = 0
    for row in range(slots.shape[0]):
        slot = slots[row]
        if last[slot] == row:
            out_rows[n_left] = row
            out_places[n_left] = slot
            n_left += 1
            has_value[slot] = 1
            last[slot] = -1
    return n_left


@lean_njit()
def running_counts(slots, valid, counts, out):
    """Write how many values each key has had; nulls count for nothing."""
    for row in range(slots.shape[0]):
        counts[slots[row]] += valid[row]
        out[row] = counts[slots[row]]


@lean_njit()
def running_sums(slots, values, valid, sums, out):
    """Write the sum of the values of each key so far (float64)."""
    for row in range(slots.shape[0]):
        slot = slots[row]
        if valid[row]:
            sums[slot] += values[row]
        out[row] = sums[slot]


@lean_njit()
def running_int_sums(slots, values, valid, sums, out):
    """Write the sum of the values of each key so far (int64).

    Returns
    -------
    int64
        The row at which a sum would overflow, -1 if none would.
    """
    for row in range(slots.shape[0]):
        slot = slots[row]
        if valid[row]:
            before, value = sums[slot], values[row]
            if value > 0 and before > np.int64(2**63 - 1) - value:
                return row
            if value < 0 and before < np.int64(-(2**63)) - value:
                return row
            sums[slot] = before + value
        out[row] = sums[slot]
    return -1


@lean_njit()
def running_least(slots, values, valid, least, out):
    """Write the least value of each key so far; NaN, with which floats begin, is the greatest."""
    for row in range(slots.shape[0]):
        slot, value = slots[row], values[row]
        if valid[row] and (value < least[slot] or least[slot] != least[slot]):
            least[slot] = value
        out[row] = least[slot]


@lean_njit()
def running_greatest(slots, values, valid, greatest, out):
    """Write the greatest value of each key so far; NaN is greater than any other."""
    for row in range(slots.shape[0]):
        slot, value = slots[row], values[row]
        if valid[row] and (value > greatest[slot] or value != value):
            greatest[slot] = value
        out[row] = greatest[slot]


@lean_njit()
def running_means(slots, values, valid, times, decay, state, out):
    """Write the mean of each key, in which a value counts half as much after a half-life.

    Parameters
    ----------
    slots : uint32[n]
    values : float64[n]
    valid : bool[n]
    times : int64[n]
    decay : float64
        The logarithm of 2 divided by the half-life in ticks.
    state : (float64[capacity], int64[capacity])
        The mean and the time of the last value; the least int64: there was none.
    out : float64[n]
    """
    means, whens = state
    for row in range(slots.shape[0]):
        slot = slots[row]
        if valid[row]:
            if whens[slot] == -(2**63):
                means[slot] = values[row]
            else:
                weight = 1.0 - np.exp(-decay * np.float64(times[row] - whens[slot]))
                means[slot] = weight * values[row] + (1.0 - weight) * means[slot]
            whens[slot] = times[row]
        out[row] = means[slot]


@lean_njit()
def rows_until_due(slots, times, ttl, due):
    """Return the first row whose key was due at its time; make keys due ``ttl`` after rows before.

    The number of rows if there is none.
    """
    for row in range(slots.shape[0]):
        slot = slots[row]
        if times[row] >= due[slot]:
            return row
        due[slot] = times[row] + ttl
    return slots.shape[0]


def warm_up():
    """Compile for the arguments the engine passes: values of Arrow are read-only."""
    slots, ints = np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.int64)
    floats, state = np.zeros(0, dtype=np.float64), np.zeros(1, dtype=np.float64)
    counts, valid, given = np.zeros(1, np.int64), np.zeros(0, np.bool_), ints.view()
    for array in (valid, given):
        array.setflags(write=False)
    link_rows(slots, counts, counts, ints, ints)
    shifted_rows(slots, 1, (ints, ints), ints, slots)
    rows_to_leave(slots, 1, counts, ints, ints, slots)
    filled_rows(slots, valid, counts, counts, ints, slots)
    values_to_leave(slots, counts, counts, ints, slots)
    running_counts(slots, valid, counts, ints)
    rows_until_due(slots, given, 1, counts)
    read_only = floats.view()
    read_only.setflags(write=False)
    for values, totals, out in ((given, counts, ints), (read_only, state, floats)):
        running_least(slots, values, valid, totals, out)
        running_greatest(slots, values, valid, totals, out)
    running_sums(slots, read_only, valid, state, floats)
    running_int_sums(slots, given, valid, counts, ints)
    running_means(slots, read_only, valid, given, 1.0, (state, counts), floats)

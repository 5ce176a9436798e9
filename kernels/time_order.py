"""The order of rows in event time: by (time, order, place), rows that agree in all as they came.

Rows mostly come in order, or as a few runs that are: one for each rank or split they come from.
One pass finds the runs. Few of them are merged; of many, a stable radix sort of the times (least
significant digit first) makes one, and rows of one time are merged among themselves.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit

BINS = 2048
_DIGIT_BITS = np.uint64(11)
_DIGIT = np.uint64(BINS - 1)
_FEW_RUNS = 8


@lean_njit()
def _is_before(times, orders, places, row, other):
    """Whether a row stands strictly before another."""
    if times[row] != times[other]:
        return times[row] < times[other]
    if orders[row] != orders[other]:
        return orders[row] < orders[other]
    return places.shape[0] > 0 and places[row] < places[other]


@lean_njit()
def count_runs(times, orders, places):
    """Return how many runs of rows in order there are: 1 says that all are.

    Parameters
    ----------
    times, orders : int64[n]
        ``n`` is at least 1.
    places : int64[n] or int64[0]
        Empty: all are equal.
    """
    n_runs = 1
    for row in range(1, times.shape[0]):
        n_runs += _is_before(times, orders, places, row, row - 1)
    return n_runs


@lean_njit()
def _run_end(times, orders, places, rows, begin, end):
    at = begin + 1
    while at < end and not _is_before(times, orders, places, rows[at], rows[at - 1]):
        at += 1
    return at


@lean_njit()
def _merge(times, orders, places, rows, scratch, bounds):
    """Merge two runs that follow one another, at ``bounds`` = (begin, middle, end)."""
    begin, middle, end = bounds
    for at in range(begin, middle):
        scratch[at] = rows[at]
    left, right, out = begin, middle, begin
    while left < middle and right < end:
        if _is_before(times, orders, places, rows[right], scratch[left]):
            rows[out] = rows[right]
            right += 1
        else:
            rows[out] = scratch[left]
            left += 1
        out += 1
    while left < middle:
        rows[out] = scratch[left]
        left += 1
        out += 1


@lean_njit()
def _merge_runs(times, orders, places, rows, scratch, begin, end):
    """Merge neighbouring runs of ``rows[begin:end]`` until there is one (natural merge sort)."""
    merged = True
    while merged:
        merged = False
        at = begin
        while at < end:
            middle = _run_end(times, orders, places, rows, at, end)
            if middle == end:
                break
            stop = _run_end(times, orders, places, rows, middle, end)
            _merge(times, orders, places, rows, scratch, (at, middle, stop))
            merged = True
            at = stop


@lean_njit()
def _sort_digit(keys, rows, shift, bins, out_keys, out_rows):
    """Sort by one digit, stably; return whether anything was written: not if it is the same."""
    bins[:] = 0
    n_rows = keys.shape[0]
    for at in range(n_rows):
        bins[(keys[at] >> shift) & _DIGIT] += 1
    if bins[(keys[0] >> shift) & _DIGIT] == n_rows:
        return False
    begin = np.int64(0)
    for digit in range(BINS):
        n_here = bins[digit]
        bins[digit] = begin
        begin += n_here
    for at in range(n_rows):
        digit = (keys[at] >> shift) & _DIGIT
        place = bins[digit]
        bins[digit] = place + 1
        out_keys[place] = keys[at]
        out_rows[place] = rows[at]
    return True


@lean_njit()
def _sort_times(times, bins, keys, scratch, out_rows):
    """Write the rows by time alone, stably. ``keys`` is uint64[2 n], twice as long as the rows."""
    n_rows = times.shape[0]
    least, greatest = times[0], times[0]
    for row in range(n_rows):
        least = min(least, times[row])
        greatest = max(greatest, times[row])
    front, back = keys[:n_rows], keys[n_rows:]
    rows, others = out_rows, scratch
    for row in range(n_rows):
        front[row] = np.uint64(times[row]) - np.uint64(least)
        rows[row] = np.uint32(row)
    span = np.uint64(greatest) - np.uint64(least)
    shift = np.uint64(0)
    is_out = True
    while shift < np.uint64(64) and (span >> shift) != np.uint64(0):
        if _sort_digit(front, rows, shift, bins, back, others):
            front, back = back, front
            rows, others = others, rows
            is_out = not is_out
        shift += _DIGIT_BITS
    if not is_out:
        for at in range(n_rows):
            out_rows[at] = scratch[at]


@lean_njit()
def order_rows(times, orders, places, n_runs, bins, keys, scratch, out_rows):
    """Write the numbers of the rows in order.

    Parameters
    ----------
    times, orders, places
        As for `count_runs`.
    n_runs : int64
        What that returned.
    bins : int64[BINS]
    keys : uint64[2 n]
    scratch : uint32[n]
    out_rows : uint32[n]
    """
    n_rows = times.shape[0]
    if n_runs <= _FEW_RUNS:
        for row in range(n_rows):
            out_rows[row] = np.uint32(row)
        _merge_runs(times, orders, places, out_rows, scratch, 0, n_rows)
        return
    _sort_times(times, bins, keys, scratch, out_rows)
    begin = 0
    while begin < n_rows:
        end = begin + 1
        while end < n_rows and times[out_rows[end]] == times[out_rows[begin]]:
            end += 1
        if end - begin > 1:
            _merge_runs(times, orders, places, out_rows, scratch, begin, end)
        begin = end


def warm_up():
    """Compile for the arguments the engine passes: rows of batches, and copies of these."""
    words = np.zeros(2, dtype=np.int64)
    words.setflags(write=False)
    rows = np.zeros(2, dtype=np.uint32)
    bins, keys = np.zeros(BINS, dtype=np.int64), np.zeros(4, dtype=np.uint64)
    n_runs = count_runs(words, words, words)
    order_rows(words, words, words, n_runs, bins, keys, rows.copy(), rows)

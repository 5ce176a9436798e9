"""Compiled loops of the generator: row numbers in, columns out.

A row is ``first + i * stride`` of one kind of events. Every value is drawn from the number of
the row's event by SplitMix64's output function (Steele, Lea, Flood 2014), with a seed for
each column, so that any part of the stream can be made anywhere, in any order. The upper half
of the 64 bits decides whether a key is hot, the lower half which other one it is.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _bits(seed, event):
    """Return 64 well-mixed bits."""
    h = seed + np.uint64(event + 1) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@njit(cache=True, nogil=True)
def _high_below(bits, n):
    """Return a number below ``n``, at most 2**32, from the upper half of the bits."""
    return np.int64(((bits >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def _low_below(bits, n):
    """Return a number below ``n``, at most 2**32, from the lower half of the bits."""
    return np.int64(((bits & np.uint64(0xFFFFFFFF)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def _bids_on(row, stride, left):
    """Return the epoch of a bid, its event, and how many bids follow one another from it.

    An epoch is 50 events, of which 46 from the fifth on are bids.
    """
    epoch = row // 46
    within = row - epoch * 46
    return epoch, epoch * 50 + 4 + within, 1 if stride > 1 else min(46 - within, left)


@njit(cache=True, nogil=True)
def events(first, stride, each, offset, out_events):
    """Write the event number of each row of a kind that has ``each`` of every 50 events."""
    for i in range(len(out_events)):
        row = first + i * stride
        out_events[i] = row // each * 50 + offset + row % each


@njit(cache=True, nogil=True)
def times(first, stride, kind, clock, out_times):
    """Write event times; ``kind`` is (each, offset), ``clock`` (base, events a second, group).

    Events that follow one another need no division.
    """
    each, offset = kind
    base, per_second, group = clock
    i = 0
    while i < len(out_times):
        row = first + i * stride
        within = row % each
        event = row // each * 50 + offset + within
        if group > 1:
            event = event // group * group + event * 953 % group
        n = 1 if stride > 1 or group > 1 else min(each - within, len(out_times) - i)
        whole = event * 1000 // per_second
        rest = event * 1000 - whole * per_second
        for k in range(n):
            out_times[i + k] = base + whole
            rest += 1000
            while rest >= per_second:
                rest -= per_second
                whole += 1
        i += n


@njit(cache=True, nogil=True)
def bid_auctions(first, stride, seed, hot, in_flight, out_ids):
    """Write for each bid its auction: the hot one, or one of the last."""
    i = 0
    while i < len(out_ids):
        epoch, event, n = _bids_on(first + i * stride, stride, len(out_ids) - i)
        last = epoch * 3 + 2
        hottest = last // 100 * 100
        least = max(last - in_flight, 0)
        for k in range(n):
            bits = _bits(seed, event + k)
            other = least + _low_below(bits, last - least + 1 + 10)
            out_ids[i + k] = 1000 + (hottest if _high_below(bits, hot) > 0 else other)
        i += n


@njit(cache=True, nogil=True)
def bid_bidders(first, stride, seed, hot, active, out_ids):
    """Write for each bid its bidder: the hot one, or an active person."""
    i = 0
    while i < len(out_ids):
        last, event, n = _bids_on(first + i * stride, stride, len(out_ids) - i)
        hottest = last // 100 * 100 + 1
        n_active = min(last + 1, active)
        for k in range(n):
            bits = _bits(seed, event + k)
            other = last + 1 - n_active + _low_below(bits, n_active + 10)
            out_ids[i + k] = 1000 + (hottest if _high_below(bits, hot) > 0 else other)
        i += n


@njit(cache=True, nogil=True)
def auction_sellers(first, stride, seed, hot, active, out_ids):
    """Write for each auction its seller: the hot one, or an active person."""
    for i in range(len(out_ids)):
        row = first + i * stride
        bits = _bits(seed, row // 3 * 50 + 1 + row % 3)
        last = row // 3
        n_active = min(last + 1, active)
        other = last + 1 - n_active + _low_below(bits, n_active + 10)
        out_ids[i] = 1000 + (last // 100 * 100 if _high_below(bits, hot) > 0 else other)


@njit(cache=True, nogil=True)
def prices(in_events, seed, steps, out_prices):
    """Write prices, log-uniform from 100 to 10**8.

    ``steps`` is ``float64[4097]``, the prices at equal steps of the exponent; between two of
    them it is linear, within 2e-6 of the exponential. Only additions and multiplications, so
    the same on every machine.
    """
    for i in range(len(out_prices)):
        out_prices[i] = _price(_bits(seed, in_events[i]), steps)


@njit(cache=True, nogil=True)
def bid_prices(first, stride, seed, steps, out_prices):
    """Write the price of each bid, as `prices`."""
    i = 0
    while i < len(out_prices):
        _, event, n = _bids_on(first + i * stride, stride, len(out_prices) - i)
        for k in range(n):
            out_prices[i + k] = _price(_bits(seed, event + k), steps)
        i += n


@njit(cache=True, nogil=True)
def _price(bits, steps):
    step = np.int64(bits >> np.uint64(52))
    within = np.int64((bits >> np.uint64(20)) & np.uint64(0xFFFFFFFF)) * 2.0**-32
    return np.int64(steps[step] + (steps[step + 1] - steps[step]) * within + 0.5)


@njit(cache=True, nogil=True)
def bid_channels(first, stride, seed, n_hot, n_others, out_channels):
    """Write for each bid the number of its channel: every second bid has a hot one."""
    i = 0
    while i < len(out_channels):
        _, event, n = _bids_on(first + i * stride, stride, len(out_channels) - i)
        for k in range(n):
            bits = _bits(seed, event + k)
            is_hot = (bits >> np.uint64(63)) > 0
            drawn = _low_below(bits, n_hot if is_hot else n_others)
            out_channels[i + k] = drawn if is_hot else n_hot + drawn
        i += n


@njit(cache=True, nogil=True)
def choices(in_events, seed, n, out_choices):
    """Write for each event a number below ``n``."""
    for i in range(len(out_choices)):
        out_choices[i] = _high_below(_bits(seed, in_events[i]), n)


@njit(cache=True, nogil=True)
def cut_offsets(first, seed, shortest, longest, period, out_offsets):
    """Write where texts begin in a pool that repeats after ``period`` bytes.

    Row ``i`` has the bytes from ``position(i)`` to ``position(i + 1)``; positions are as far
    apart as a text is long on average, give or take what the row draws: so texts need no
    copy. The first offset is below ``period``.
    """
    spread = np.int64((longest - shortest) // 2 + 1)
    start = np.int64(0)
    for i in range(len(out_offsets)):
        row = first + i
        position = row * (shortest + longest) // 2 + _high_below(_bits(seed, row), spread)
        if i == 0:
            start = position // period * period
        out_offsets[i] = position - start

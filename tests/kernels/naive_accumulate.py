"""Accumulating, one Python number at a time."""

import math


def exact_sums(slots, values, n_slots):
    """Return the sum of each slot as a Python integer."""
    sums = [0] * n_slots
    for slot, value in zip(slots, values, strict=True):
        sums[slot] += int(value)
    return sums


def extremes(slots, values, n_slots, pick):
    """Return the least or greatest value of each slot, NaN being greater than any number.

    Of a slot without values it is the greatest, or least, there can be.
    """
    found = [math.nan if pick is min else -math.inf] * n_slots
    for slot, value in zip(slots, values, strict=True):
        found[slot] = pick(found[slot], value, key=lambda x: (math.isnan(x), x))
    return found


def moments(slots, values, n_slots):
    """Return (count, mean, sum of squared deviations) of each slot."""
    found = []
    for wanted in range(n_slots):
        here = [v for slot, v in zip(slots, values, strict=True) if slot == wanted]
        mean = math.fsum(here) / len(here) if here else 0.0
        found.append((len(here), mean, math.fsum((v - mean) ** 2 for v in here)))
    return found


def edges(slots, times, orders, values, n_slots, pick):
    """Return the value with the least or greatest (time, order) of each slot, or None."""
    found = []
    for wanted in range(n_slots):
        rows = zip(slots, times, orders, values, strict=True)
        here = [(t, o, v) for slot, t, o, v in rows if slot == wanted]
        found.append(pick(here, key=lambda row: row[:2])[2] if here else None)
    return found

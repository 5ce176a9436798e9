"""Exact sums of floats, as fractions."""

import math
from fractions import Fraction


def nearest(total):
    """Return the float nearest to a fraction, infinite if it is too large."""
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def exact_sums(slots, values, n_slots):
    """Return the float nearest to the sum of each slot; not finite as in IEEE 754."""
    found = []
    for wanted in range(n_slots):
        here = [float(v) for slot, v in zip(slots, values, strict=True) if slot == wanted]
        special = [value for value in here if not math.isfinite(value)]
        found.append(sum(special) if special else nearest(sum(map(Fraction, here), Fraction(0))))
    return found
